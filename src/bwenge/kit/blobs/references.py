"""Who needs which content, so that it is removed when nobody does and never while somebody might.

An upload leases the content before it writes it, and turns the lease into a lasting reference in the transaction of its
own row. Removal first condemns the row, which neither a reference nor a live lease allows, then deletes the object,
then forgets the row; each step may be repeated after a crash.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.blobs.models import BlobReference, BlobRow
from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.errors import Unavailable

LEASE: Final = timedelta(minutes=10)


class BlobBusy(Unavailable):
    title = "The same file is being removed at this moment; send it again shortly"


async def lease(session: AsyncSession, key: BlobKey, *, owner_id: UUID, size: int) -> bool:
    """Keep the content for ten minutes, in which the owner may write it and then refer to it.

    Returns False, and keeps nothing, while the same content is being removed. Not an error: the caller's transaction
    may have to commit, to see to it that the removal ends.
    """
    state = await session.scalar(
        insert(BlobRow)
        .values(org_id=key.org_id, sha256=key.sha256, size=size)
        .on_conflict_do_update(index_elements=[BlobRow.org_id, BlobRow.sha256], set_={"size": size})
        .returning(BlobRow.state)
    )
    if state != "present":
        return False
    await session.execute(
        insert(BlobReference)
        .values(
            org_id=key.org_id,
            sha256=key.sha256,
            owner_id=owner_id,
            expires_at=func.clock_timestamp() + LEASE,
        )
        .on_conflict_do_nothing()
    )
    return True


async def refer(session: AsyncSession, key: BlobKey, *, owner_id: UUID) -> None:
    """Turn the owner's lease into a reference that lasts.

    Raises:
        BlobBusy: the lease is gone, because the owner took longer than ten minutes.
    """
    # The row's lock comes first, so that no removal can be decided on between this statement and the commit.
    state = await session.scalar(select(BlobRow.state).where(_row(key)).with_for_update(read=True))
    if state != "present":
        raise BlobBusy(retry_after=1)
    kept = await session.scalar(
        update(BlobReference)
        .where(_reference(key), BlobReference.owner_id == owner_id)
        .values(expires_at=None)
        .returning(BlobReference.owner_id)
    )
    if kept is None:
        raise BlobBusy(retry_after=1)


async def drop_reference(session: AsyncSession, key: BlobKey, *, owner_id: UUID) -> None:
    await session.execute(delete(BlobReference).where(_reference(key), BlobReference.owner_id == owner_id))


async def condemn(session: AsyncSession, key: BlobKey) -> bool:
    """Decide on removal. False while the content is referred to or leased, or where there is none."""
    # The row's lock comes first, so that the next statement sees a reference which was being written meanwhile.
    if await session.scalar(select(BlobRow.sha256).where(_row(key)).with_for_update()) is None:
        return False
    now = func.clock_timestamp()
    needed = select(BlobReference.owner_id).where(
        _reference(key), or_(BlobReference.expires_at.is_(None), BlobReference.expires_at >= now)
    )
    if (await session.execute(needed.limit(1))).first() is not None:
        return False
    await session.execute(delete(BlobReference).where(_reference(key), BlobReference.expires_at < now))
    await session.execute(update(BlobRow).where(_row(key)).values(state="deleting"))
    return True


async def forget(session: AsyncSession, key: BlobKey) -> None:
    """Remove the row of a condemned content whose object is gone."""
    await session.execute(delete(BlobRow).where(and_(_row(key), BlobRow.state == "deleting")))


def _row(key: BlobKey) -> ColumnElement[bool]:
    return and_(BlobRow.org_id == key.org_id, BlobRow.sha256 == key.sha256)


def _reference(key: BlobKey) -> ColumnElement[bool]:
    return and_(BlobReference.org_id == key.org_id, BlobReference.sha256 == key.sha256)
