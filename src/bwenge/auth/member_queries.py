"""Every query on an organisation's members, their seats and their classes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import Group, GroupMember, Invitation, Organization, RefreshToken, User
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest


@dataclass(frozen=True, slots=True)
class MemberFilter:
    """Which members a list shows; None does not choose.

    Attributes:
        q: A part of the name, the email address or the username, in any case.
    """

    role: Role | None = None
    group_id: UUID | None = None
    is_active: bool | None = None
    q: str | None = None


async def get_organization(session: AsyncSession, org_id: UUID) -> Organization:
    """Raises `NotFound`."""
    organization = await session.get(Organization, org_id)
    if organization is None:
        raise NotFound
    return organization


async def lock_organization(session: AsyncSession, org_id: UUID) -> Organization:
    """The organisation's row is the lock over its seats, its owners and its end. Raises `NotFound`.

    Not against a row that merely refers to it: whoever holds a member, as a login does, adds rows of the organisation
    afterwards, while an erasure goes from the organisation to its members.
    """
    organization = await session.scalar(
        select(Organization).where(Organization.id == org_id).with_for_update(key_share=True)
    )
    if organization is None:
        raise NotFound
    return organization


async def count_seats(session: AsyncSession, org_id: UUID, *, now: datetime) -> int:
    """Seats that are taken, in an organisation that the transaction has locked."""
    members = select(func.count()).select_from(User).where(User.org_id == org_id, User.is_active)
    invitations = (
        select(func.count()).select_from(Invitation).where(Invitation.org_id == org_id, Invitation.expires_at > now)
    )
    taken = select(members.scalar_subquery() + invitations.scalar_subquery())
    return int((await session.execute(taken)).scalar_one())


async def has_other_owner(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> bool:
    """Whether another member is an active owner, in an organisation that the transaction has locked."""
    others = select(User.id).where(
        User.org_id == org_id, User.role == Role.OWNER.value, User.is_active, User.id != user_id
    )
    return await session.scalar(others.limit(1)) is not None


async def lock_member(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> User:
    """Also a deactivated one; raises `NotFound` for one who was removed.

    Holds their sessions as `lock_user` does, and keeps waiting whoever holds on to an active member.
    """
    member = await session.scalar(
        select(User)
        .where(User.id == user_id, User.org_id == org_id, User.erased_at.is_(None))
        .with_for_update(key_share=True)
    )
    if member is None:
        raise NotFound
    return member


async def list_members(
    session: AsyncSession, org_id: UUID, wanted: MemberFilter, *, taught_by: UUID | None, page: PageRequest
) -> Sequence[User]:
    """In the order in which they came, one more than the page holds where there are more.

    With `taught_by`, the learners of this member's classes alone.
    """
    query = select(User).where(User.org_id == org_id, User.erased_at.is_(None), *_conditions(org_id, wanted))
    if taught_by is not None:
        learners = _of_groups(org_id).where(Group.owner_id == taught_by)
        query = query.where(User.role == Role.USER.value, User.id.in_(learners))
    if page.after is not None:
        query = query.where(User.id > page.after)
    return (await session.scalars(query.order_by(User.id).limit(page.limit + 1))).all()


def _conditions(org_id: UUID, wanted: MemberFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.role is not None:
        conditions.append(User.role == wanted.role.value)
    if wanted.is_active is not None:
        conditions.append(User.is_active == wanted.is_active)
    if wanted.q is not None:
        columns = (User.name, User.email, User.username)
        conditions.append(or_(*(column.icontains(wanted.q, autoescape=True) for column in columns)))
    if wanted.group_id is not None:
        conditions.append(User.id.in_(_of_groups(org_id).where(Group.id == wanted.group_id)))
    return conditions


def _of_groups(org_id: UUID) -> Select[UUID]:
    """Ids of members of the organisation's classes."""
    return select(GroupMember.user_id).join(Group, Group.id == GroupMember.group_id).where(Group.org_id == org_id)


async def end_sessions(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> None:
    """Of a member whom the transaction has locked, or who is inactive for good."""
    await session.execute(delete(RefreshToken).where(RefreshToken.user_id == user_id, RefreshToken.org_id == org_id))


async def leave_groups(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> None:
    """Classes stay, without the one who taught or attended them."""
    await session.execute(delete(GroupMember).where(GroupMember.user_id == user_id, GroupMember.org_id == org_id))
    await session.execute(update(Group).where(Group.owner_id == user_id, Group.org_id == org_id).values(owner_id=None))


async def has_group(
    session: AsyncSession, group_id: UUID, *, org_id: UUID, owner_id: UUID | None = None, hold: bool = False
) -> bool:
    """Whether the class is there, of that owner where one is given; held, it is not deleted before the commit."""
    query = select(Group.id).where(Group.id == group_id, Group.org_id == org_id)
    if owner_id is not None:
        query = query.where(Group.owner_id == owner_id)
    found = await session.scalar(query.with_for_update(read=True, key_share=True) if hold else query)
    return found is not None


async def groups_by_name(session: AsyncSession, names: Collection[str], *, org_id: UUID) -> dict[str, UUID]:
    """Ids by case-folded name, the oldest of those that share one; held, so that none is deleted meanwhile."""
    folded = {name.casefold() for name in names}
    every = await session.execute(select(Group.id, Group.name).where(Group.org_id == org_id))
    wanted = [group_id for group_id, name in every if name.casefold() in folded]
    held = await session.execute(
        select(Group.id, Group.name)
        .where(Group.org_id == org_id, Group.id.in_(wanted))
        .order_by(Group.id.desc())
        .with_for_update(read=True, key_share=True)
    )
    return {name.casefold(): group_id for group_id, name in held}


async def add_group(session: AsyncSession, name: str, *, org_id: UUID, owner_id: UUID) -> UUID:
    group = Group(id=new_id(), org_id=org_id, name=name, owner_id=owner_id)
    session.add(group)
    await session.flush()
    return group.id


async def add_to_group(session: AsyncSession, group_id: UUID, user_id: UUID, *, org_id: UUID) -> None:
    session.add(GroupMember(group_id=group_id, user_id=user_id, org_id=org_id))
    await session.flush()


async def taken_identifiers(session: AsyncSession, identifiers: Collection[str]) -> set[str]:
    """Those email addresses and usernames, in lower case, that accounts of whatever organisation have."""
    wanted = {identifier.lower() for identifier in identifiers}
    taken: set[str] = set()
    for column in (User.email, User.username):
        taken |= set(await session.scalars(select(func.lower(column)).where(func.lower(column).in_(wanted))))
    return taken
