"""Groups (classes): who teaches them, who learns in them, and with which personas.

Experts have their own groups, and another's is as unknown to them; administrators have every group.
"""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import group_queries, invitation_queries, member_queries
from bwenge.auth.classes import restricted_to
from bwenge.auth.contract import AuditEntry, AuditLog, PersonaDirectory
from bwenge.auth.group_queries import GroupedPersona, Lock
from bwenge.auth.models import Group, User
from bwenge.kit.errors import Forbidden, Invalid, NotFound
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest


class GroupService:
    """Every act is audited in its own transaction. Raises `NotFound` for a group that is unknown to the principal."""

    def __init__(self, *, personas: PersonaDirectory, audit: AuditLog) -> None:
        self._personas = personas
        self._audit = audit

    async def create(self, session: AsyncSession, principal: Principal, *, name: str, owner_id: UUID | None) -> Group:
        """A group that `owner_id` teaches, or the principal.

        Raises:
            NotFound: The owner is no active member.
            Forbidden: An expert names somebody else.
            Invalid: The owner is a learner.
        """
        owner_id = owner_id or principal.user_id
        await self._require_teacher(session, principal, owner_id)
        group = Group(id=new_id(), org_id=principal.org_id, name=name, owner_id=owner_id)
        await group_queries.add(session, group)
        await self._note(session, principal, "group.created", group, name=name, owner_id=str(owner_id))
        return group

    async def list_page(self, session: AsyncSession, principal: Principal, page: PageRequest) -> Sequence[Group]:
        """Newest first, one more than the page holds where there are more."""
        return await group_queries.list_page(
            session, org_id=principal.org_id, owner_id=restricted_to(principal), page=page
        )

    async def get(
        self, session: AsyncSession, principal: Principal, group_id: UUID, *, lock: Lock = Lock.NONE
    ) -> Group:
        group = await group_queries.find(
            session, group_id, org_id=principal.org_id, owner_id=restricted_to(principal), lock=lock
        )
        if group is None:
            raise NotFound
        return group

    async def update(
        self, session: AsyncSession, principal: Principal, group_id: UUID, *, name: str | None, owner_id: UUID | None
    ) -> Group:
        """Set what is given. With another owner, the former one's links into the class end. Raises as `create` does."""
        if owner_id is not None:
            # Before the class, as who makes or uses a link locks them.
            await member_queries.lock_organization(session, principal.org_id)
        group = await self.get(session, principal, group_id, lock=Lock.CHANGE)
        changes: dict[str, Any] = {}
        if name is not None and name != group.name:
            changes["name"] = group.name = name
        if owner_id is not None and owner_id != group.owner_id:
            await self._require_teacher(session, principal, owner_id)
            changes |= await self._end_links(session, group)
            group.owner_id = owner_id
            changes["owner_id"] = str(owner_id)
        if changes:
            await group_queries.write(session, group)
            await self._note(session, principal, "group.changed", group, **changes)
        return group

    async def delete(self, session: AsyncSession, principal: Principal, group_id: UUID) -> None:
        """A persona that was in this group alone is in none from now on, so every learner sees it."""
        group = await self.get(session, principal, group_id, lock=Lock.CHANGE)
        await group_queries.remove(session, group)
        await self._note(session, principal, "group.deleted", group, name=group.name)

    async def list_members(
        self, session: AsyncSession, principal: Principal, group_id: UUID, page: PageRequest
    ) -> Sequence[User]:
        group = await self.get(session, principal, group_id)
        return await group_queries.list_members(session, group.id, org_id=group.org_id, page=page)

    async def add_members(
        self, session: AsyncSession, principal: Principal, group_id: UUID, user_ids: Collection[UUID]
    ) -> frozenset[UUID]:
        """Let learners in, all of them or none; returns those who were not in yet.

        An expert lets in who is in no class, or in one of theirs already: whoever teaches a learner resets the password
        and reads the sessions, and another teacher's learner is as unknown.

        Raises:
            NotFound: One of them is no active member of the organisation, or an expert's to let in.
            Invalid: One of them is no learner.
        """
        group = await self.get(session, principal, group_id, lock=Lock.KEEP)
        is_admin = principal.role.at_least(Role.ADMIN)
        # Of two experts who let in the same learner, the second finds what the first has written.
        members = await group_queries.keep_members(session, user_ids, org_id=group.org_id, alone=not is_admin)
        if len(members) != len(user_ids):
            raise NotFound
        if not is_admin and await group_queries.is_any_taught_by_others(
            session, user_ids, org_id=group.org_id, teacher_id=principal.user_id
        ):
            raise NotFound
        if any(member.role != Role.USER.value for member in members):
            raise Invalid(errors=[{"field": "user_ids", "code": "not_a_learner", "message": "Only learners join"}])
        added = await group_queries.add_members(session, group, user_ids)
        if added:
            await self._note(session, principal, "group.members_added", group, user_ids=_written(added))
        return added

    async def remove_member(self, session: AsyncSession, principal: Principal, group_id: UUID, user_id: UUID) -> None:
        """Raises `NotFound` when they are not in the group."""
        group = await self.get(session, principal, group_id)
        if not await group_queries.remove_member(session, group, user_id):
            raise NotFound
        await self._note(session, principal, "group.member_removed", group, user_id=str(user_id))

    async def list_personas(
        self, session: AsyncSession, principal: Principal, group_id: UUID, page: PageRequest
    ) -> Sequence[GroupedPersona]:
        group = await self.get(session, principal, group_id)
        return await group_queries.list_personas(session, group.id, org_id=group.org_id, page=page)

    async def add_personas(
        self, session: AsyncSession, principal: Principal, group_id: UUID, persona_ids: Collection[UUID]
    ) -> frozenset[UUID]:
        """Show personas to the group's learners, all of them or none; returns those that were not in yet.

        Raises:
            NotFound: One of them is none of the organisation's, or the API key is confined to others.
            Forbidden: An expert puts in one that somebody else owns; who sees it is not theirs to decide.
        """
        group = await self.get(session, principal, group_id, lock=Lock.KEEP)
        is_admin = principal.role.at_least(Role.ADMIN)
        for persona_id in sorted(persona_ids):
            persona = await self._personas.keep(session, persona_id)
            if persona is None or not principal.may_use(persona_id):
                raise NotFound
            if not is_admin and persona.owner_id != principal.user_id:
                raise Forbidden("Who sees a persona is its owner's to decide: ask them or an administrator")
        added = await group_queries.add_personas(session, group, persona_ids)
        if added:
            await self._note(session, principal, "group.personas_added", group, persona_ids=_written(added))
        return added

    async def remove_persona(
        self, session: AsyncSession, principal: Principal, group_id: UUID, persona_id: UUID
    ) -> None:
        """Raises `NotFound` when it is not in the group."""
        group = await self.get(session, principal, group_id)
        if not principal.may_use(persona_id) or not await group_queries.remove_persona(session, group, persona_id):
            raise NotFound
        await self._note(session, principal, "group.persona_removed", group, persona_id=str(persona_id))

    async def _require_teacher(self, session: AsyncSession, principal: Principal, owner_id: UUID) -> None:
        members = await group_queries.keep_members(session, [owner_id], org_id=principal.org_id)
        if not members:
            raise NotFound
        if owner_id != principal.user_id and not principal.role.at_least(Role.ADMIN):
            raise Forbidden("Only administrators give a group to somebody else")
        if not Role(members[0].role).at_least(Role.EXPERT):
            raise Invalid(errors=[{"field": "owner_id", "code": "not_an_expert", "message": "A learner owns no group"}])

    async def _end_links(self, session: AsyncSession, group: Group) -> dict[str, int]:
        """Whoever teaches the class no more lets nobody into it; administrators go on."""
        if group.owner_id is None:
            return {}
        ended = await invitation_queries.withdraw_from_group(session, group.owner_id, group.id, org_id=group.org_id)
        return {"join_links_ended": ended} if ended else {}

    async def _note(
        self, session: AsyncSession, principal: Principal, action: str, group: Group, **detail: Any
    ) -> None:
        await self._audit.record(session, AuditEntry.by(principal, action, target=("group", group.id), **detail))


def _written(ids: Collection[UUID]) -> list[str]:
    return sorted(str(one) for one in ids)
