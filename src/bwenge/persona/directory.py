from collections.abc import Collection
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import KeptPersona
from bwenge.persona import repository


class StoredPersonas:
    """Implements `auth.contract.PersonaDirectory`. Apart from `PersonaService`, which is built on the members."""

    async def keep(self, session: AsyncSession, persona_id: UUID) -> KeptPersona | None:
        persona = await repository.keep_in_tenant(session, persona_id)
        return None if persona is None else KeptPersona(persona.owner_id)

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        return await repository.existing(session, persona_ids, org_id=org_id)
