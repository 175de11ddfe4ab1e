"""What an administrator does at a terminal, on the database of a platform that runs or of one that is stopped."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy.engine import URL

from bwenge.apps.resources import join_server, open_database
from bwenge.apps.secrets import Secrets
from bwenge.auth.audit import AuditTrail
from bwenge.auth.tenants import TenantDirectory
from bwenge.kit.db import SINGLE
from bwenge.payments import wiring as payments_wiring
from bwenge.payments.contract import PlanName
from bwenge.payments.service import Grant

__all__ = ["PlanName", "grant_plan", "join_server"]


async def grant_plan(
    server: URL, secrets: Secrets, *, org_id: UUID, plan_name: PlanName, until: date, reason: str
) -> datetime:
    """Returns when the plan ends.

    Raises:
        NotFound: There is no such organisation.
        GrantEndRefused, DatabaseUnavailable
    """
    async with open_database(server, secrets, pools=SINGLE) as database:
        payments = payments_wiring.build(database, tenants=TenantDirectory(), audit=AuditTrail())
        present = await payments.subscriptions.grant(org_id, Grant(plan_name, until, reason), by=None)
    return present.standing.current_period.end
