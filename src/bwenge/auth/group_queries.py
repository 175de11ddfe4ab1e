"""Every query on groups, their members and their personas."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import Group, GroupMember, GroupPersona, User
from bwenge.kit.identity import Role
from bwenge.kit.pagination import PageRequest


class Lock(Enum):
    """Until the transaction ends."""

    NONE = "none"
    KEEP = "keep"
    """The group is not deleted; others may change it and add to it."""
    CHANGE = "change"
    """Nobody else changes it or adds to it."""


@dataclass(frozen=True, slots=True)
class GroupedPersona:
    """A persona of a group; `id` is the persona's."""

    id: UUID


async def add(session: AsyncSession, group: Group) -> None:
    session.add(group)
    await session.flush()


async def write(session: AsyncSession, group: Group) -> None:
    """Send a locked group's changes, and read back the time of them, which a trigger sets."""
    await session.flush()
    await session.refresh(group, ["updated_at"])


async def find(
    session: AsyncSession, group_id: UUID, *, org_id: UUID, owner_id: UUID | None, lock: Lock = Lock.NONE
) -> Group | None:
    """With `owner_id`, only a group of that owner's."""
    query = select(Group).where(Group.id == group_id, *_groups(org_id, owner_id))
    match lock:
        case Lock.KEEP:
            query = query.with_for_update(read=True, key_share=True)
        case Lock.CHANGE:
            query = query.with_for_update()
        case Lock.NONE:
            pass
    return await session.scalar(query)


async def list_page(
    session: AsyncSession, *, org_id: UUID, owner_id: UUID | None, page: PageRequest
) -> Sequence[Group]:
    """Newest first; one row more than the page holds, where there are more."""
    query = select(Group).where(*_groups(org_id, owner_id))
    if page.after is not None:
        query = query.where(Group.id < page.after)
    return (await session.scalars(query.order_by(Group.id.desc()).limit(page.limit + 1))).all()


def _groups(org_id: UUID, owner_id: UUID | None) -> tuple[ColumnElement[bool], ...]:
    in_org = Group.org_id == org_id
    return (in_org,) if owner_id is None else (in_org, Group.owner_id == owner_id)


async def remove(session: AsyncSession, group: Group) -> None:
    """With its members and personas."""
    await session.delete(group)
    await session.flush()


async def keep_members(
    session: AsyncSession, user_ids: Collection[UUID], *, org_id: UUID, alone: bool = False
) -> Sequence[User]:
    """Those of the users who are active members, and stay so until the transaction ends.

    With `alone`, whoever else asks so for one of them waits until then.
    """
    query = select(User).where(User.id.in_(user_ids), User.org_id == org_id, User.is_active).order_by(User.id)
    return (await session.scalars(query.with_for_update(read=not alone, key_share=alone))).all()


async def is_any_taught_by_others(
    session: AsyncSession, user_ids: Collection[UUID], *, org_id: UUID, teacher_id: UUID
) -> bool:
    """Whether one of them is in groups, none of which is this teacher's."""
    of_others = (
        select(GroupMember.user_id)
        .join(Group, Group.id == GroupMember.group_id)
        .where(GroupMember.user_id.in_(user_ids), GroupMember.org_id == org_id, Group.org_id == org_id)
        .group_by(GroupMember.user_id)
        .having(func.count().filter(Group.owner_id == teacher_id) == 0)
    )
    return bool(await session.scalar(select(exists(of_others))))


async def list_members(session: AsyncSession, group_id: UUID, *, org_id: UUID, page: PageRequest) -> Sequence[User]:
    """Who is a learner still, the newest accounts first; one row more than the page holds, where there are more."""
    query = (
        select(User)
        .join(GroupMember, GroupMember.user_id == User.id)
        .where(
            GroupMember.group_id == group_id,
            GroupMember.org_id == org_id,
            User.org_id == org_id,
            User.role == Role.USER.value,
            User.erased_at.is_(None),
        )
    )
    if page.after is not None:
        query = query.where(User.id < page.after)
    return (await session.scalars(query.order_by(User.id.desc()).limit(page.limit + 1))).all()


async def add_members(session: AsyncSession, group: Group, user_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Returns those who were not in it. Rows go in by id, so that two writers never wait for each other."""
    rows = [{"group_id": group.id, "user_id": user_id, "org_id": group.org_id} for user_id in sorted(user_ids)]
    added = insert(GroupMember).values(rows).on_conflict_do_nothing().returning(GroupMember.user_id)
    return frozenset((await session.scalars(added)).all())


async def remove_member(session: AsyncSession, group: Group, user_id: UUID) -> bool:
    """Returns whether they were in it."""
    removed = delete(GroupMember).where(
        GroupMember.group_id == group.id, GroupMember.user_id == user_id, GroupMember.org_id == group.org_id
    )
    return await session.scalar(removed.returning(GroupMember.user_id)) is not None


async def list_personas(
    session: AsyncSession, group_id: UUID, *, org_id: UUID, page: PageRequest
) -> Sequence[GroupedPersona]:
    """Newest first; one more than the page holds, where there are more."""
    query = select(GroupPersona.persona_id).where(GroupPersona.group_id == group_id, GroupPersona.org_id == org_id)
    if page.after is not None:
        query = query.where(GroupPersona.persona_id < page.after)
    found = await session.scalars(query.order_by(GroupPersona.persona_id.desc()).limit(page.limit + 1))
    return [GroupedPersona(persona_id) for persona_id in found]


async def add_personas(session: AsyncSession, group: Group, persona_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Returns those that were not in it."""
    rows = [
        {"group_id": group.id, "persona_id": persona_id, "org_id": group.org_id} for persona_id in sorted(persona_ids)
    ]
    added = insert(GroupPersona).values(rows).on_conflict_do_nothing().returning(GroupPersona.persona_id)
    return frozenset((await session.scalars(added)).all())


async def remove_persona(session: AsyncSession, group: Group, persona_id: UUID) -> bool:
    """Returns whether it was in it."""
    removed = delete(GroupPersona).where(
        GroupPersona.group_id == group.id, GroupPersona.persona_id == persona_id, GroupPersona.org_id == group.org_id
    )
    return await session.scalar(removed.returning(GroupPersona.persona_id)) is not None


async def forget_persona(session: AsyncSession, persona_id: UUID, *, org_id: UUID) -> None:
    await session.execute(
        delete(GroupPersona).where(GroupPersona.persona_id == persona_id, GroupPersona.org_id == org_id)
    )


async def personas_of_others(
    session: AsyncSession, user_id: UUID, *, org_id: UUID, among: Collection[UUID] | None
) -> frozenset[UUID]:
    """Personas that are in groups, none of which the user is a member of."""
    grouped = select(GroupPersona.persona_id).where(GroupPersona.org_id == org_id)
    if among is not None:
        grouped = grouped.where(GroupPersona.persona_id.in_(among))
    own = grouped.join(GroupMember, GroupMember.group_id == GroupPersona.group_id).where(
        GroupMember.user_id == user_id, GroupMember.org_id == org_id
    )
    return frozenset((await session.scalars(grouped.except_(own))).all())


async def has_learner(session: AsyncSession, owner_id: UUID, learner_id: UUID, *, org_id: UUID) -> bool:
    """Whether the learner is in a group of this owner's."""
    shared = (
        select(Group.id)
        .join(GroupMember, GroupMember.group_id == Group.id)
        .join(User, User.id == GroupMember.user_id)
        .where(
            *_groups(org_id, owner_id),
            GroupMember.user_id == learner_id,
            User.org_id == org_id,
            User.role == Role.USER.value,
        )
    )
    return bool(await session.scalar(select(exists(shared))))
