"""What an organisation has of which plan, and plans that are given without payment."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import AuditEntry, AuditLog, Tenants
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import Operator
from bwenge.kit.ids import new_id
from bwenge.payments import repository
from bwenge.payments.contract import PlanName
from bwenge.payments.errors import GrantEndRefused
from bwenge.payments.models import Subscription
from bwenge.payments.periods import Clock, utc_now
from bwenge.payments.quotas import PlanQuotas
from bwenge.payments.standing import Present

_log = structlog.get_logger(__name__)

LONGEST_GRANT: Final = timedelta(days=3_660)
"""Ten years: what is further away is a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A plan that is given without payment.

    Attributes:
        until: A moment or, as a date, the end of that day in the organisation's time zone.
        reason: For the organisation's audit log.
    """

    plan_name: PlanName
    until: datetime | date
    reason: str


class SubscriptionService:
    def __init__(
        self, database: Database, *, quotas: PlanQuotas, tenants: Tenants, audit: AuditLog, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._quotas = quotas
        self._tenants = tenants
        self._audit = audit
        self._clock = clock

    async def present(self, session: AsyncSession, org_id: UUID) -> Present:
        return await self._quotas.present(session, org_id)

    async def grant(self, org_id: UUID, grant: Grant, *, by: Operator | None) -> Present:
        """Put a plan in force from now on, in the place of the present one; `by` is None for the command line.

        Raises:
            NotFound: There is no such organisation.
            GrantEndRefused
        """
        async with self._database.unit_of_work(PLATFORM) as session:
            await repository.lock_subscriptions(session, org_id)
            now = self._clock()
            until = await self._end(session, org_id, grant.until)
            if not now < until <= now + LONGEST_GRANT:
                raise GrantEndRefused("until is in the future, and within ten years")
            await repository.end_subscriptions(session, org_id, at=now)
            subscription = Subscription(
                id=new_id(),
                org_id=org_id,
                plan_name=grant.plan_name,
                status="active",
                current_period_start=now,
                current_period_end=until,
                granted_reason=grant.reason,
            )
            await repository.add_subscription(session, subscription)
            await self._audit.record(session, _granted(subscription, by=by))
            present = await self.present(session, org_id)
        _log.info("plan_granted", org_id=str(org_id), plan=grant.plan_name, until=until.isoformat())
        return present

    async def _end(self, session: AsyncSession, org_id: UUID, until: datetime | date) -> datetime:
        zone = await self._tenants.time_zone(session, org_id)
        if isinstance(until, datetime):
            return until
        try:
            return datetime.combine(until + timedelta(days=1), time(), zone).astimezone(UTC)
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)


def _granted(subscription: Subscription, *, by: Operator | None) -> AuditEntry:
    return AuditEntry(
        org_id=subscription.org_id,
        actor_id=None if by is None else by.user_id,
        action="subscription.granted",
        target_type="subscription",
        target_id=str(subscription.id),
        detail={
            "plan_name": subscription.plan_name,
            "until": subscription.current_period_end.isoformat(),
            "reason": subscription.granted_reason,
            "by": "command line" if by is None else "operator",
        },
    )
