"""Queries of the platform's staff over all organisations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import Organization, User
from bwenge.kit.pagination import PageRequest


@dataclass(frozen=True, slots=True)
class OrganizationSummary:
    """An organisation as the staff see it.

    Attributes:
        members: How many active ones it has.
    """

    id: UUID
    name: str
    time_zone: str
    language: str
    created_at: datetime
    members: int


async def list_organizations(
    session: AsyncSession, *, page: PageRequest, name: str | None
) -> Sequence[OrganizationSummary]:
    """Newest first, one more than the page holds where there are more; those whose name holds `name`, in any case."""
    members = (
        select(func.count())
        .where(User.org_id == Organization.id, User.is_active)
        .correlate(Organization)
        .scalar_subquery()
    )
    query = select(
        Organization.id,
        Organization.name,
        Organization.time_zone,
        Organization.language,
        Organization.created_at,
        members.label("members"),
    )
    if name is not None:
        query = query.where(Organization.name.icontains(name, autoescape=True))
    if page.after is not None:
        query = query.where(Organization.id < page.after)
    rows = await session.execute(query.order_by(Organization.id.desc()).limit(page.limit + 1))
    return [OrganizationSummary(*row) for row in rows]
