from collections.abc import Collection
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.persona import repository


class StoredPersonas:
    """Implements `auth.contract.PersonaDirectory`. Apart from `PersonaService`, which is built on the members."""

    async def exists(self, session: AsyncSession, persona_id: UUID) -> bool:
        return await repository.keep_in_tenant(session, persona_id)

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID]) -> frozenset[UUID]:
        return await repository.existing_in_tenant(session, persona_ids)
