"""Every query on invitations and join links."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import Group, Invitation, JoinLink, User
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import Role
from bwenge.kit.pagination import PageRequest


async def add(session: AsyncSession, offer: Invitation | JoinLink) -> None:
    session.add(offer)
    await session.flush()


async def live_invitation(
    session: AsyncSession, token_hash: bytes, *, now: datetime, lock: bool = False
) -> Invitation | None:
    """Locked, it is accepted or revoked once."""
    query = select(Invitation).where(Invitation.token_hash == token_hash, Invitation.expires_at > now)
    return await session.scalar(query.with_for_update() if lock else query)


async def live_join_link(
    session: AsyncSession, token_hash: bytes, *, now: datetime, lock: bool = False
) -> JoinLink | None:
    """Locked, its uses are counted one by one."""
    query = select(JoinLink).where(
        JoinLink.token_hash == token_hash, JoinLink.expires_at > now, JoinLink.uses < JoinLink.max_uses
    )
    return await session.scalar(query.with_for_update() if lock else query)


async def count_use(session: AsyncSession, link: JoinLink) -> None:
    """Of a link that the transaction has locked."""
    await session.execute(
        update(JoinLink).where(JoinLink.id == link.id, JoinLink.org_id == link.org_id).values(uses=JoinLink.uses + 1)
    )


async def lock_invitation(session: AsyncSession, invitation_id: UUID, *, org_id: UUID) -> Invitation:
    """Raises `NotFound`."""
    query = select(Invitation).where(Invitation.id == invitation_id, Invitation.org_id == org_id)
    invitation = await session.scalar(query.with_for_update())
    if invitation is None:
        raise NotFound
    return invitation


async def lock_invitation_of(session: AsyncSession, email: str, *, org_id: UUID) -> Invitation | None:
    query = select(Invitation).where(Invitation.email == email, Invitation.org_id == org_id)
    return await session.scalar(query.with_for_update())


async def lock_join_link(
    session: AsyncSession, join_link_id: UUID, *, org_id: UUID, teacher_id: UUID | None
) -> JoinLink:
    """The link, by that member or into a class of theirs where one is given. Raises `NotFound`."""
    query = _join_links(org_id, teacher_id).where(JoinLink.id == join_link_id)
    link = await session.scalar(query.with_for_update())
    if link is None:
        raise NotFound
    return link


async def invited(session: AsyncSession, emails: Collection[str], *, org_id: UUID, now: datetime) -> frozenset[str]:
    """Those of the addresses that have a live invitation, and so a seat."""
    query = select(Invitation.email).where(
        Invitation.email.in_(emails), Invitation.org_id == org_id, Invitation.expires_at > now
    )
    return frozenset(await session.scalars(query))


async def remove_of(session: AsyncSession, email: str, *, org_id: UUID) -> None:
    """Of an address that has an account now: nobody could accept it, and its seat is the account's."""
    await session.execute(delete(Invitation).where(Invitation.email == email, Invitation.org_id == org_id))


async def remove(session: AsyncSession, offer: Invitation | JoinLink) -> None:
    """Of an offer that the transaction has locked."""
    await session.delete(offer)
    await session.flush()


async def list_invitations(session: AsyncSession, org_id: UUID, *, page: PageRequest) -> Sequence[Invitation]:
    """Newest first, one more than the page holds where there are more."""
    query = select(Invitation).where(Invitation.org_id == org_id)
    if page.after is not None:
        query = query.where(Invitation.id < page.after)
    return (await session.scalars(query.order_by(Invitation.id.desc()).limit(page.limit + 1))).all()


async def list_join_links(
    session: AsyncSession, org_id: UUID, *, teacher_id: UUID | None, page: PageRequest
) -> Sequence[JoinLink]:
    """Newest first, one more than the page holds where there are more.

    With `teacher_id`, those that this member made and those into their classes.
    """
    query = _join_links(org_id, teacher_id)
    if page.after is not None:
        query = query.where(JoinLink.id < page.after)
    return (await session.scalars(query.order_by(JoinLink.id.desc()).limit(page.limit + 1))).all()


async def withdraw(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> None:
    """Remove what a member offered."""
    await session.execute(delete(Invitation).where(Invitation.invited_by == user_id, Invitation.org_id == org_id))
    await session.execute(delete(JoinLink).where(JoinLink.created_by == user_id, JoinLink.org_id == org_id))


async def withdraw_from_group(session: AsyncSession, user_id: UUID, group_id: UUID, *, org_id: UUID) -> int:
    """Remove a member's links into a class, unless the member is an administrator; returns how many there were.

    In an organisation that the transaction has locked, as for `withdraw`: two removals of the same rows take turns.
    """
    below_admin = select(User.id).where(
        User.id == user_id, User.org_id == org_id, User.role.not_in([Role.ADMIN.value, Role.OWNER.value])
    )
    ended = await session.scalars(
        delete(JoinLink)
        .where(JoinLink.created_by.in_(below_admin), JoinLink.group_id == group_id, JoinLink.org_id == org_id)
        .returning(JoinLink.id)
    )
    return len(ended.all())


def _join_links(org_id: UUID, teacher_id: UUID | None) -> Select[JoinLink]:
    query = select(JoinLink).where(JoinLink.org_id == org_id)
    if teacher_id is None:
        return query
    own_groups = select(Group.id).where(Group.owner_id == teacher_id, Group.org_id == org_id)
    return query.where(or_(JoinLink.created_by == teacher_id, JoinLink.group_id.in_(own_groups)))
