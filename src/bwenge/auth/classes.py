"""What groups mean to the other features."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import group_queries
from bwenge.kit.identity import Principal, Role


class Classrooms:
    """Implements `auth.contract.Classes`."""

    async def hidden_personas(
        self, session: AsyncSession, principal: Principal, *, among: Collection[UUID] | None = None
    ) -> frozenset[UUID]:
        # A key that was made for some personas sees these, whatever classes its maker attends.
        if principal.role.at_least(Role.EXPERT) or principal.confined_to is not None:
            return frozenset()
        return await group_queries.personas_of_others(session, principal.user_id, org_id=principal.org_id, among=among)

    async def teaches(self, session: AsyncSession, principal: Principal, learner_id: UUID) -> bool:
        """Owning a group gives nothing to who is no expert any more, and being in one nothing over who is none yet."""
        return principal.role.at_least(Role.EXPERT) and await group_queries.has_learner(
            session, principal.user_id, learner_id, org_id=principal.org_id
        )

    async def forget_persona(self, session: AsyncSession, persona_id: UUID, *, org_id: UUID) -> None:
        await group_queries.forget_persona(session, persona_id, org_id=org_id)


def restricted_to(principal: Principal) -> UUID | None:
    """Whose classes, with all that is theirs, the principal may know of; None for everybody's."""
    return None if principal.role.at_least(Role.ADMIN) else principal.user_id
