"""Every query on personas. A deleted persona's row stays and is found by none of them."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.pagination import PageRequest
from bwenge.persona.models import Persona


async def add(session: AsyncSession, persona: Persona) -> None:
    session.add(persona)
    await session.flush()


async def find(session: AsyncSession, persona_id: UUID, *, org_id: UUID, lock: bool = False) -> Persona | None:
    """With `lock`, no one else changes the persona until the transaction ends."""
    query = select(Persona).where(Persona.id == persona_id, Persona.org_id == org_id, Persona.deleted_at.is_(None))
    return await session.scalar(query.with_for_update(key_share=True) if lock else query)


async def keep_in_tenant(session: AsyncSession, persona_id: UUID) -> Persona | None:
    """The persona, if it is there; then nobody deletes it until the transaction ends.

    In the tenant that the transaction named: row-level security shows no other one's personas.
    """
    query = select(Persona).where(Persona.id == persona_id, Persona.deleted_at.is_(None))
    return await session.scalar(query.with_for_update(read=True))


async def existing(session: AsyncSession, persona_ids: Collection[UUID], *, org_id: UUID) -> frozenset[UUID]:
    query = select(Persona.id).where(
        Persona.id.in_(persona_ids), Persona.org_id == org_id, Persona.deleted_at.is_(None)
    )
    return frozenset(await session.scalars(query))


async def list_page(
    session: AsyncSession,
    *,
    org_id: UUID,
    page: PageRequest,
    active_only: bool,
    hidden: Collection[UUID],
    among: Collection[UUID] | None,
) -> Sequence[Persona]:
    """Newest first; one row more than the page holds, where there are more."""
    query = select(Persona).where(Persona.org_id == org_id, Persona.deleted_at.is_(None))
    if active_only:
        query = query.where(Persona.is_active)
    if hidden:
        query = query.where(Persona.id.not_in(hidden))
    if among is not None:
        query = query.where(Persona.id.in_(among))
    if page.after is not None:
        query = query.where(Persona.id < page.after)
    return (await session.scalars(query.order_by(Persona.id.desc()).limit(page.limit + 1))).all()


async def names(session: AsyncSession, persona_ids: Collection[UUID], *, org_id: UUID) -> dict[UUID, str]:
    query = select(Persona.id, Persona.name).where(
        Persona.id.in_(persona_ids), Persona.org_id == org_id, Persona.deleted_at.is_(None)
    )
    return {found.id: found.name for found in await session.execute(query)}


async def write(session: AsyncSession, persona: Persona) -> None:
    """Send a locked persona's changes, and read back the time of them, which a trigger sets."""
    persona.version += 1
    await session.flush()
    await session.refresh(persona, ["updated_at"])
