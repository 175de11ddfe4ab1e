"""Every query on personas. A deleted persona's row stays and is found by none of them."""

from collections.abc import Sequence
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


async def find_in_tenant(session: AsyncSession, persona_id: UUID) -> Persona | None:
    """In the tenant that the transaction named: row-level security shows no other one's personas."""
    return await session.scalar(select(Persona).where(Persona.id == persona_id, Persona.deleted_at.is_(None)))


async def list_page(session: AsyncSession, *, org_id: UUID, page: PageRequest, active_only: bool) -> Sequence[Persona]:
    """Newest first; one row more than the page holds, where there are more."""
    query = select(Persona).where(Persona.org_id == org_id, Persona.deleted_at.is_(None))
    if active_only:
        query = query.where(Persona.is_active)
    if page.after is not None:
        query = query.where(Persona.id < page.after)
    return (await session.scalars(query.order_by(Persona.id.desc()).limit(page.limit + 1))).all()


async def write(session: AsyncSession, persona: Persona) -> None:
    """Send a locked persona's changes, and read back the time of them, which a trigger sets."""
    persona.version += 1
    await session.flush()
    await session.refresh(persona, ["updated_at"])
