"""Every query on organisations that are being erased or were."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import ErasedOrganization, Organization, User


@dataclass(frozen=True, slots=True)
class Tombstone:
    org_id: UUID
    reference: UUID
    is_erased: bool


async def close(session: AsyncSession, org_ids: Collection[UUID]) -> None:
    """Let nobody in any more: no login, refresh, token or key of a member is good from the commit on."""
    await session.execute(
        update(Organization)
        .where(Organization.id.in_(org_ids), Organization.deleted_at.is_(None))
        .values(deleted_at=func.clock_timestamp())
    )
    await session.execute(update(User).where(User.org_id.in_(org_ids), User.is_active).values(is_active=False))


async def existing(session: AsyncSession, org_ids: Collection[UUID]) -> set[UUID]:
    return set((await session.scalars(select(Organization.id).where(Organization.id.in_(org_ids)))).all())


async def add_tombstones(session: AsyncSession, references: Mapping[UUID, UUID]) -> None:
    """By organisation, its reference; the one that is there already stays."""
    if references:
        rows = [{"id": org_id, "reference": reference} for org_id, reference in references.items()]
        await session.execute(insert(ErasedOrganization).on_conflict_do_nothing(), rows)


async def tombstones(session: AsyncSession) -> list[Tombstone]:
    rows = await session.scalars(select(ErasedOrganization).order_by(ErasedOrganization.id))
    return [Tombstone(row.id, row.reference, row.erased_at is not None) for row in rows]


async def reference_of(session: AsyncSession, org_id: UUID) -> UUID:
    """Raises `NoResultFound` where there is no tombstone, without which nothing is erased."""
    query = select(ErasedOrganization.reference).where(ErasedOrganization.id == org_id)
    return (await session.execute(query)).scalar_one()


async def note_erased(session: AsyncSession, org_id: UUID) -> None:
    await session.execute(
        update(ErasedOrganization).where(ErasedOrganization.id == org_id).values(erased_at=func.clock_timestamp())
    )
