"""The audit log: who did what, to whom, from where. It is only ever added to."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import AuditEntry
from bwenge.auth.models import AuditRecord, User
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest
from bwenge.kit.telemetry import current_client_address

UNKNOWN_ACCOUNTS: Final = Counter(
    "bwenge_unknown_account_attempts_total", "Attempts at accounts that there are not", ["action"]
)

_log = structlog.get_logger(__name__)


def attempt(user: User, action: str, **detail: Any) -> AuditEntry:
    """What somebody tried who has not shown who they are."""
    return AuditEntry(user.org_id, None, action, target_type="user", target_id=str(user.id), detail=detail)


def note_unknown_account(action: str) -> None:
    """The same of an account that there is not: whoever invents names adds no rows that are kept for ever."""
    UNKNOWN_ACCOUNTS.labels(action=action).inc()
    _log.info("unknown_account", action=action, address=current_client_address())


class AuditTrail:
    """Implements `auth.contract.AuditLog`."""

    async def record(self, session: AsyncSession, entry: AuditEntry) -> None:
        session.add(
            AuditRecord(
                id=new_id(),
                org_id=entry.org_id,
                actor_id=entry.actor_id,
                action=entry.action,
                target_type=entry.target_type,
                target_id=entry.target_id,
                address=current_client_address(),
                detail=dict(entry.detail),
            )
        )
        await session.flush()

    async def list_page(self, session: AsyncSession, org_id: UUID, *, page: PageRequest) -> Sequence[AuditRecord]:
        """Newest first, one more than the page holds where there are more."""
        query = select(AuditRecord).where(AuditRecord.org_id == org_id)
        if page.after is not None:
            query = query.where(AuditRecord.id < page.after)
        return (await session.scalars(query.order_by(AuditRecord.id.desc()).limit(page.limit + 1))).all()
