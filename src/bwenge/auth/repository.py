"""Every query on organisations, users and refresh tokens."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.errors import EmailTaken, UsernameTaken
from bwenge.auth.identifiers import fold_identifier
from bwenge.auth.models import Organization, RefreshToken, User
from bwenge.kit.errors import Conflict
from bwenge.kit.identity import OPERATOR, Caller, Operator

_TAKEN: Final[Mapping[str | None, type[Conflict]]] = {
    "uq_users_email": EmailTaken,
    "uq_users_username": UsernameTaken,
}


async def add_organization(session: AsyncSession, organization: Organization) -> None:
    session.add(organization)
    await session.flush()


async def add_user(session: AsyncSession, user: User) -> None:
    """Insert; the session is of no more use when this raises `EmailTaken` or `UsernameTaken`.

    The unique indexes decide, so of two registrations at the same moment the second waits for the first one's commit.
    """
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        taken = _TAKEN.get(error.orig.diag.constraint_name) if isinstance(error.orig, UniqueViolation) else None
        if taken is None:
            raise
        raise taken from error


async def find_user(session: AsyncSession, identifier: str) -> User | None:
    """By email address, which always holds an `@`, or by username, which never does; in any organisation."""
    column = User.email if "@" in identifier else User.username
    return await session.scalar(select(User).where(func.lower(column) == fold_identifier(identifier)))


async def get_member(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> User | None:
    return await session.scalar(_active_members(org_id).where(User.id == user_id))


async def get_active(session: AsyncSession, caller: Caller, *, hold: bool = False) -> User | None:
    """The caller as they stand now, unless they are no active member or operator any more, or their session was ended.

    With `hold`, they stay active until the transaction ends.
    """
    if isinstance(caller, Operator):
        query = select(User).where(User.role == OPERATOR, User.is_active)
    else:
        query = _active_members(caller.org_id)
    # Asked again once a lock is held, the session must not answer with what it has read before.
    query = query.where(User.id == caller.user_id).execution_options(populate_existing=True)
    if caller.session_id is not None:
        # One token of a family is revoked with all others, and stays until it would have expired.
        ended = select(RefreshToken.family_id).where(
            RefreshToken.family_id == caller.session_id, RefreshToken.revoked_at.is_not(None)
        )
        query = query.where(~ended.exists())
    if hold:
        query = query.with_for_update(read=True, of=User)
    return await session.scalar(query)


def _active_members(org_id: UUID) -> Select[User]:
    """Nobody is one of an organisation that is being erased."""
    query = select(User).join(Organization, Organization.id == User.org_id)
    return query.where(User.org_id == org_id, User.is_active, Organization.deleted_at.is_(None))


async def lock_user(session: AsyncSession, user_id: UUID) -> User | None:
    """The user's row is the lock over all of their sessions: who adds or revokes one holds it.

    Without it a rotation could insert a token that a revocation of its family, running beside, does not see.
    """
    return await session.scalar(select(User).where(User.id == user_id).with_for_update(key_share=True))


async def lock_user_of_token(session: AsyncSession, token_hash: bytes) -> User | None:
    return await session.scalar(
        select(User)
        .join(RefreshToken, RefreshToken.user_id == User.id)
        .where(RefreshToken.token_hash == token_hash)
        .with_for_update(of=User, key_share=True)
    )


async def find_holder(session: AsyncSession, token_hash: bytes, *, now: datetime, grace: timedelta) -> UUID | None:
    """Whose token it is, if it may be used."""
    is_fresh = or_(RefreshToken.used_at.is_(None), RefreshToken.used_at >= now - grace)
    return await session.scalar(
        select(RefreshToken.user_id).where(
            RefreshToken.token_hash == token_hash,
            RefreshToken.revoked_at.is_(None),
            RefreshToken.expires_at > now,
            is_fresh,
        )
    )


async def get_refresh_token(session: AsyncSession, token_hash: bytes) -> RefreshToken | None:
    return await session.scalar(select(RefreshToken).where(RefreshToken.token_hash == token_hash))


async def add_refresh_token(session: AsyncSession, token: RefreshToken) -> None:
    session.add(token)
    await session.flush()


async def revoke_family(session: AsyncSession, family_id: UUID, *, at: datetime) -> bool:
    """Of a user whom the transaction has locked. Returns whether there was anything to revoke."""
    revoked = await session.scalars(
        update(RefreshToken)
        .where(RefreshToken.family_id == family_id, RefreshToken.revoked_at.is_(None))
        .values(revoked_at=at)
        .returning(RefreshToken.id)
    )
    return revoked.first() is not None


async def delete_expired_tokens(session: AsyncSession, user_id: UUID, *, before: datetime) -> None:
    await session.execute(delete(RefreshToken).where(RefreshToken.user_id == user_id, RefreshToken.expires_at < before))
