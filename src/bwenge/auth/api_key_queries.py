"""Every query on API keys."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import ApiKey, User
from bwenge.kit.pagination import PageRequest


async def add(session: AsyncSession, api_key: ApiKey) -> None:
    session.add(api_key)
    await session.flush()


async def find_live(session: AsyncSession, key_hash: bytes, *, at: datetime) -> Row[ApiKey, User] | None:
    """The key and its maker; None where it is unknown, expired, or its maker is not active."""
    query = (
        select(ApiKey, User)
        .join(User, User.id == ApiKey.created_by)
        .where(ApiKey.key_hash == key_hash, _lives(at), User.is_active)
    )
    return (await session.execute(query)).one_or_none()


async def is_live(session: AsyncSession, key_id: UUID, *, org_id: UUID, at: datetime) -> bool:
    query = select(ApiKey.id).where(ApiKey.id == key_id, ApiKey.org_id == org_id, _lives(at))
    return await session.scalar(query) is not None


async def mark_used(session: AsyncSession, key_id: UUID, *, at: datetime, unless_since: datetime) -> None:
    """Without effect where a use beside this one was noted since `unless_since`."""
    is_stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= unless_since)
    await session.execute(update(ApiKey).where(ApiKey.id == key_id, is_stale).values(last_used_at=at))


async def list_page(session: AsyncSession, org_id: UUID, *, page: PageRequest) -> Sequence[ApiKey]:
    """Newest first, one more than the page holds where there are more."""
    query = select(ApiKey).where(ApiKey.org_id == org_id)
    if page.after is not None:
        query = query.where(ApiKey.id < page.after)
    return (await session.scalars(query.order_by(ApiKey.id.desc()).limit(page.limit + 1))).all()


async def remove(session: AsyncSession, key_id: UUID, *, org_id: UUID) -> ApiKey | None:
    """The key that was there. Of two deletions at once the second waits for the first, and finds nothing."""
    return await session.scalar(
        delete(ApiKey).where(ApiKey.id == key_id, ApiKey.org_id == org_id).returning(ApiKey),
        execution_options={"synchronize_session": False},
    )


def _lives(at: datetime) -> ColumnElement[bool]:
    return or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > at)
