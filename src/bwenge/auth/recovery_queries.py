"""Every query on links and codes that set a forgotten password, and on all of a member's sessions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import PasswordResetCode, PasswordResetLink, RefreshToken, User


async def add_link(session: AsyncSession, user: User, token_hash: bytes, *, expires_at: datetime) -> None:
    session.add(PasswordResetLink(token_hash=token_hash, org_id=user.org_id, user_id=user.id, expires_at=expires_at))
    await session.flush()


async def count_links(session: AsyncSession, user_id: UUID, *, at: datetime) -> int:
    """How many may still be used."""
    query = select(func.count()).where(PasswordResetLink.user_id == user_id, PasswordResetLink.expires_at > at)
    return await session.scalar(query) or 0


async def delete_link(session: AsyncSession, token_hash: bytes) -> None:
    await session.execute(delete(PasswordResetLink).where(PasswordResetLink.token_hash == token_hash))


async def delete_expired_links(session: AsyncSession, user_id: UUID, *, at: datetime) -> None:
    await session.execute(
        delete(PasswordResetLink).where(PasswordResetLink.user_id == user_id, PasswordResetLink.expires_at <= at)
    )


async def user_of_link(session: AsyncSession, token_hash: bytes, *, at: datetime) -> User | None:
    """The active member whom a link that may still be used was sent to."""
    return await session.scalar(
        select(User)
        .join(PasswordResetLink, PasswordResetLink.user_id == User.id)
        .where(PasswordResetLink.token_hash == token_hash, PasswordResetLink.expires_at > at, User.is_active)
    )


async def put_code(session: AsyncSession, user: User, code_hash: str, *, issued_by: UUID, expires_at: datetime) -> None:
    """In place of the member's last one."""
    row = {
        "org_id": user.org_id,
        "issued_by": issued_by,
        "code_hash": code_hash,
        "tries": 0,
        "expires_at": expires_at,
    }
    await session.execute(
        insert(PasswordResetCode)
        .values(user_id=user.id, **row)
        .on_conflict_do_update(
            index_elements=[PasswordResetCode.user_id], set_=row | {"created_at": func.clock_timestamp()}
        )
    )


async def withdraw_codes(session: AsyncSession, user_id: UUID, *, org_id: UUID) -> None:
    """Those that were issued to the member, and those that the member issued."""
    concerned = or_(PasswordResetCode.user_id == user_id, PasswordResetCode.issued_by == user_id)
    await session.execute(delete(PasswordResetCode).where(concerned, PasswordResetCode.org_id == org_id))


async def take_try(session: AsyncSession, user_id: UUID, *, at: datetime, most: int) -> str | None:
    """The hash of the member's code, with one of its tries used up; None where there is no code or no try left."""
    return await session.scalar(
        update(PasswordResetCode)
        .where(PasswordResetCode.user_id == user_id, PasswordResetCode.expires_at > at, PasswordResetCode.tries < most)
        .values(tries=PasswordResetCode.tries + 1)
        .returning(PasswordResetCode.code_hash)
    )


async def give_try_back(session: AsyncSession, user_id: UUID, code_hash: str) -> None:
    await session.execute(
        update(PasswordResetCode)
        .where(PasswordResetCode.user_id == user_id, PasswordResetCode.code_hash == code_hash)
        .values(tries=PasswordResetCode.tries - 1)
    )


async def has_link(session: AsyncSession, user_id: UUID, token_hash: bytes, *, at: datetime) -> bool:
    link = exists().where(
        PasswordResetLink.user_id == user_id,
        PasswordResetLink.token_hash == token_hash,
        PasswordResetLink.expires_at > at,
    )
    return bool(await session.scalar(select(link)))


async def has_code(session: AsyncSession, user_id: UUID, code_hash: str, *, at: datetime) -> bool:
    code = exists().where(
        PasswordResetCode.user_id == user_id,
        PasswordResetCode.code_hash == code_hash,
        PasswordResetCode.expires_at > at,
    )
    return bool(await session.scalar(select(code)))


async def delete_links_and_codes(session: AsyncSession, user_id: UUID) -> None:
    for table in (PasswordResetLink, PasswordResetCode):
        await session.execute(delete(table).where(table.user_id == user_id))


async def revoke_sessions(session: AsyncSession, user_id: UUID, *, at: datetime, but: UUID | None = None) -> None:
    """All families of a user whom the transaction has locked, but for one."""
    statement = update(RefreshToken).where(RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None))
    if but is not None:
        statement = statement.where(RefreshToken.family_id != but)
    await session.execute(statement.values(revoked_at=at))
