"""Personas: made by experts, changed by their owner or an administrator, seen by learners as their groups say."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import Classes, Members
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest
from bwenge.persona import repository
from bwenge.persona.contract import PersonaCard
from bwenge.persona.errors import NotOwnPersona, PersonaNotFound, VersionConflict
from bwenge.persona.models import Persona
from bwenge.persona.profile import PersonaProfile
from bwenge.persona.schemas import (
    LearnerPersonaResponse,
    PersonaBody,
    PersonaReplacement,
    PersonaResponse,
    PersonaSettings,
)

_FIRST_VERSION: Final = 1


class PersonaService:
    """Implements `persona.contract.Personas`, `persona.profile.PersonaSource` and `knowledge.contract.PersonaAccess`.

    Every write asks `members` first, since a token outlives a deactivation. What `classes` keeps from a learner, and
    what an API key is not confined to, is as unknown to them.
    """

    def __init__(self, database: Database, *, members: Members, classes: Classes) -> None:
        self._database = database
        self._members = members
        self._classes = classes

    async def create(self, session: AsyncSession, principal: Principal, body: PersonaBody) -> Persona:
        await self._members.require_active(session, principal)
        persona = Persona(
            id=new_id(),
            org_id=principal.org_id,
            owner_id=principal.user_id,
            version=_FIRST_VERSION,
            **body.columns(),
        )
        await repository.add(session, persona)
        return persona

    async def get(self, session: AsyncSession, principal: Principal, persona_id: UUID) -> Persona:
        """Raises `PersonaNotFound`, for learners also when the persona is inactive."""
        persona = await self._find(session, principal, persona_id)
        if not (persona.is_active or _teaches(principal)):
            raise PersonaNotFound
        return persona

    async def list_page(self, session: AsyncSession, principal: Principal, page: PageRequest) -> list[Persona]:
        """Newest first, one more than the page holds where there are more; learners see active ones only."""
        rows = await repository.list_page(
            session,
            org_id=principal.org_id,
            page=page,
            active_only=not _teaches(principal),
            hidden=await self._classes.hidden_personas(session, principal),
            among=principal.confined_to,
        )
        return list(rows)

    async def replace(
        self, session: AsyncSession, principal: Principal, *, persona_id: UUID, body: PersonaReplacement
    ) -> Persona:
        """Raises `VersionConflict` when the body names a version that is not the present one."""
        persona = await self._lock_for_writing(session, principal, persona_id)
        if body.version is not None and body.version != persona.version:
            raise VersionConflict
        for column, value in body.columns().items():
            setattr(persona, column, value)
        await repository.write(session, persona)
        return persona

    async def merge_settings(
        self, session: AsyncSession, principal: Principal, *, persona_id: UUID, settings: PersonaSettings
    ) -> Persona:
        """Set the keys that `settings` names, and take back those that it names with None."""
        persona = await self._lock_for_writing(session, principal, persona_id)
        merged = {**persona.settings, **settings.model_dump(exclude_unset=True)}
        persona.settings = {key: value for key, value in merged.items() if value is not None}
        await repository.write(session, persona)
        return persona

    async def delete(self, session: AsyncSession, principal: Principal, persona_id: UUID) -> None:
        """The row stays, for the conversations that were held with it."""
        persona = await self._lock_for_writing(session, principal, persona_id)
        persona.deleted_at = datetime.now(UTC)
        await repository.write(session, persona)
        await self._classes.forget_persona(session, persona.id, org_id=persona.org_id)

    async def require(self, session: AsyncSession, principal: Principal, persona_id: UUID, *, write: bool) -> None:
        persona = await self.get(session, principal, persona_id)
        if write:
            await self._members.require_active(session, principal)
            _require_writer(persona, principal)

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        return await repository.existing(session, persona_ids, org_id=org_id)

    async def card(self, session: AsyncSession, principal: Principal, persona_id: UUID) -> PersonaCard:
        persona = await self._find(session, principal, persona_id)
        return PersonaCard(
            persona_id=persona.id, name=persona.name, is_active=persona.is_active, settings=persona.settings
        )

    async def names(
        self, session: AsyncSession, principal: Principal, persona_ids: Collection[UUID]
    ) -> Mapping[UUID, str]:
        usable = {persona_id for persona_id in persona_ids if principal.may_use(persona_id)}
        seen = usable - await self._classes.hidden_personas(session, principal, among=usable)
        return await repository.names(session, seen, org_id=principal.org_id)

    async def load(self, org_id: UUID, persona_id: UUID) -> PersonaProfile:
        """Raises `PersonaNotFound` for an unknown, foreign, deleted or inactive persona."""
        async with self._database.unit_of_work(org_id) as session:
            persona = await repository.find(session, persona_id, org_id=org_id)
        if persona is None or not persona.is_active:
            raise PersonaNotFound
        return PersonaProfile(
            name=persona.name,
            description=persona.description,
            tone=persona.tone,
            guidelines=tuple(persona.rules.get("guidelines", ())),
            sample_prompts=tuple(persona.sample_prompts),
            safety_rules=tuple(persona.safety_rules),
            settings=persona.settings,
        )

    async def _lock_for_writing(self, session: AsyncSession, principal: Principal, persona_id: UUID) -> Persona:
        await self._members.require_active(session, principal)
        persona = await self._find(session, principal, persona_id, lock=True)
        _require_writer(persona, principal)
        return persona

    async def _find(
        self, session: AsyncSession, principal: Principal, persona_id: UUID, *, lock: bool = False
    ) -> Persona:
        persona = await repository.find(session, persona_id, org_id=principal.org_id, lock=lock)
        if persona is None or not principal.may_use(persona_id):
            raise PersonaNotFound
        if await self._classes.hidden_personas(session, principal, among={persona_id}):
            raise PersonaNotFound
        return persona


def shown_to(principal: Principal, persona: Persona) -> PersonaResponse | LearnerPersonaResponse:
    """As much of the persona as the principal's role may know."""
    if _teaches(principal):
        return PersonaResponse.model_validate(persona)
    return LearnerPersonaResponse(
        id=persona.id,
        name=persona.name,
        description=persona.description,
        greeting=persona.settings.get("greeting"),
        language=persona.settings.get("language"),
        sample_prompts=persona.sample_prompts,
    )


def _teaches(principal: Principal) -> bool:
    return principal.role.at_least(Role.EXPERT)


def _require_writer(persona: Persona, principal: Principal) -> None:
    if persona.owner_id != principal.user_id and not principal.role.at_least(Role.ADMIN):
        raise NotOwnPersona
