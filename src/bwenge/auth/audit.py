"""The audit log: who did what, to whom, from where. It is only ever added to."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import AuditEntry
from bwenge.auth.models import AuditRecord, User
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest
from bwenge.kit.telemetry import current_client_address


def attempt(user: User | None, action: str, **detail: Any) -> AuditEntry:
    """What somebody tried who has not shown who they are; in the platform's own log where the account is unknown."""
    if user is None:
        return AuditEntry(None, None, action, detail=detail)
    return AuditEntry(user.org_id, None, action, target_type="user", target_id=str(user.id), detail=detail)


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
