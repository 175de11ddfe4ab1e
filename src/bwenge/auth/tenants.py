"""What other features may ask about an organisation itself."""

from datetime import UTC, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import member_queries
from bwenge.auth.models import Organization
from bwenge.auth.tokens import utc_now
from bwenge.kit.errors import NotFound


class TenantDirectory:
    """Implements `auth.contract.Tenants`."""

    async def time_zone(self, session: AsyncSession, org_id: UUID) -> tzinfo:
        name = await session.scalar(select(Organization.time_zone).where(Organization.id == org_id))
        if name is None:
            raise NotFound
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError):
            return UTC  # This machine's list of zones is not that of the one where the name was accepted.

    async def require_open(self, session: AsyncSession, org_id: UUID) -> None:
        query = select(Organization.id).where(Organization.id == org_id, Organization.deleted_at.is_(None))
        if await session.scalar(query) is None:
            raise NotFound

    async def seats_taken(self, session: AsyncSession, org_id: UUID) -> int:
        return await member_queries.count_seats(session, org_id, now=utc_now())
