"""Every query on sources and on what indexing writes. The queries of retrieval stand in `retrieval`."""

from collections.abc import AsyncIterable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.pagination import PageRequest
from bwenge.knowledge.index_rows import ChunkRow, IndexSegment, PostingRow, VectorBatch
from bwenge.knowledge.models import ChunkVector, KnowledgeChunk, KnowledgeSource, Posting

_BATCH_WEIGHT: Final = 2_000
_CHUNK_WEIGHT: Final = 20

T = TypeVar("T")


async def add_source(session: AsyncSession, source: KnowledgeSource) -> None:
    session.add(source)
    await session.flush()


async def find_source(
    session: AsyncSession, source_id: UUID, *, org_id: UUID, lock: bool = False
) -> KnowledgeSource | None:
    """The source, unless it was deleted.

    With `lock`, no one else changes it until the transaction ends. Rows that refer to it may still be written: the lock
    waits for no index, and no index for it.
    """
    query = select(KnowledgeSource).where(
        KnowledgeSource.id == source_id, KnowledgeSource.org_id == org_id, KnowledgeSource.deleted_at.is_(None)
    )
    return (await session.execute(query.with_for_update(key_share=True) if lock else query)).scalar_one_or_none()


async def existing_sources(session: AsyncSession, source_ids: Collection[UUID], *, org_id: UUID) -> frozenset[UUID]:
    """Those of the sources that were not deleted."""
    query = select(KnowledgeSource.id).where(
        KnowledgeSource.id.in_(source_ids), KnowledgeSource.org_id == org_id, KnowledgeSource.deleted_at.is_(None)
    )
    return frozenset((await session.scalars(query)).all())


async def personas_of(session: AsyncSession, source_ids: Collection[UUID], *, org_id: UUID) -> dict[UUID, UUID]:
    """By source, its persona; nothing for a source that was deleted."""
    query = select(KnowledgeSource.id, KnowledgeSource.persona_id).where(
        KnowledgeSource.id.in_(source_ids), KnowledgeSource.org_id == org_id, KnowledgeSource.deleted_at.is_(None)
    )
    return {row.id: row.persona_id for row in await session.execute(query)}


async def find_claimed(session: AsyncSession, source_id: UUID, *, org_id: UUID, run: int) -> KnowledgeSource | None:
    """The source, locked as by `find_source`, if it is still this run's to work on."""
    query = select(KnowledgeSource).where(_claimed(source_id, org_id=org_id, run=run))
    return (await session.execute(query.with_for_update(key_share=True))).scalar_one_or_none()


def _claimed(source_id: UUID, *, org_id: UUID, run: int) -> ColumnElement[bool]:
    return and_(
        KnowledgeSource.id == source_id,
        KnowledgeSource.org_id == org_id,
        KnowledgeSource.status == "processing",
        KnowledgeSource.run == run,
        KnowledgeSource.deleted_at.is_(None),
    )


async def find_tombstone(session: AsyncSession, source_id: UUID, *, org_id: UUID) -> KnowledgeSource | None:
    """A deleted source whose remains are not all removed yet, locked against all that would still refer to it."""
    query = select(KnowledgeSource).where(
        KnowledgeSource.id == source_id, KnowledgeSource.org_id == org_id, KnowledgeSource.deleted_at.is_not(None)
    )
    return (await session.execute(query.with_for_update())).scalar_one_or_none()


async def find_by_content(
    session: AsyncSession, *, org_id: UUID, persona_id: UUID, sha256: str
) -> KnowledgeSource | None:
    query = select(KnowledgeSource).where(
        KnowledgeSource.org_id == org_id,
        KnowledgeSource.persona_id == persona_id,
        KnowledgeSource.sha256 == sha256,
        KnowledgeSource.deleted_at.is_(None),
    )
    return (await session.execute(query)).scalar_one_or_none()


async def list_sources(
    session: AsyncSession, *, org_id: UUID, persona_ids: Collection[UUID] | None, status: str | None, page: PageRequest
) -> Sequence[KnowledgeSource]:
    """Of these personas, or of all; newest first; one row more than the page holds, where there are more."""
    query = select(KnowledgeSource).where(KnowledgeSource.org_id == org_id, KnowledgeSource.deleted_at.is_(None))
    if persona_ids is not None:
        query = query.where(KnowledgeSource.persona_id.in_(persona_ids))
    if status is not None:
        query = query.where(KnowledgeSource.status == status)
    if page.after is not None:
        query = query.where(KnowledgeSource.id < page.after)
    return (await session.execute(query.order_by(KnowledgeSource.id.desc()).limit(page.limit + 1))).scalars().all()


async def list_chunks(
    session: AsyncSession, source_id: UUID, *, org_id: UUID, page: PageRequest
) -> Sequence[KnowledgeChunk]:
    """In reading order; one row more than the page holds, where there are more. Chunk ids rise with the reading."""
    query = select(KnowledgeChunk).where(KnowledgeChunk.source_id == source_id, KnowledgeChunk.org_id == org_id)
    if page.after is not None:
        query = query.where(KnowledgeChunk.id > page.after)
    return (await session.execute(query.order_by(KnowledgeChunk.id).limit(page.limit + 1))).scalars().all()


async def update_source(
    session: AsyncSession, source_id: UUID, *, org_id: UUID, run: int, values: Mapping[str, Any]
) -> bool:
    """Change a source that is still this run's to work on. Returns whether it is."""
    changed = await session.scalar(
        update(KnowledgeSource)
        .where(_claimed(source_id, org_id=org_id, run=run))
        .values(**values)
        .returning(KnowledgeSource.id)
    )
    return changed is not None


async def queue_positions(session: AsyncSession, source_ids: Collection[UUID], *, org_id: UUID) -> dict[UUID, int]:
    """Each source's place among those of the tenant that have not begun, earliest first, counted from 1."""
    waiting = (
        select(KnowledgeSource.id, func.row_number().over(order_by=KnowledgeSource.id).label("position"))
        .where(
            KnowledgeSource.org_id == org_id,
            KnowledgeSource.status == "pending",
            KnowledgeSource.deleted_at.is_(None),
        )
        .subquery()
    )
    rows = await session.execute(select(waiting.c.id, waiting.c.position).where(waiting.c.id.in_(source_ids)))
    return {row.id: row.position for row in rows}


async def replace_keyword_index(
    session: AsyncSession, source: KnowledgeSource, segments: AsyncIterable[IndexSegment]
) -> None:
    """Write chunks and postings in the place of any that an interrupted attempt left."""
    await delete_index(session, source.id, org_id=source.org_id)
    async for segment in segments:
        for chunks in _batches(segment.chunks, lambda chunk: _CHUNK_WEIGHT + len(chunk.place_starts)):
            await session.execute(insert(KnowledgeChunk), [_chunk_values(source, chunk) for chunk in chunks])
        for postings in _batches(segment.postings.items(), lambda item: 1 + len(item[1].chunk_indexes)):
            await session.execute(
                insert(Posting), [_posting_values(source, segment.number, *posting) for posting in postings]
            )


def _chunk_values(source: KnowledgeSource, chunk: ChunkRow) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "org_id": source.org_id,
        "source_id": source.id,
        "chunk_index": chunk.chunk_index,
        "text": chunk.text,
        "token_count": chunk.token_count,
        "term_count": chunk.term_count,
        "language": chunk.language,
        "locator": chunk.locator,
        "place_starts": chunk.place_starts,
    }


def _posting_values(source: KnowledgeSource, segment: int, term: str, posting: PostingRow) -> dict[str, Any]:
    return {
        "persona_id": source.persona_id,
        "term": term,
        "source_id": source.id,
        "segment": segment,
        "org_id": source.org_id,
        "chunk_indexes": posting.chunk_indexes,
        "frequencies": posting.frequencies,
        "lengths": posting.lengths,
    }


async def chunk_texts(
    session: AsyncSession, source_id: UUID, *, org_id: UUID, start: int, count: int
) -> Sequence[tuple[UUID, str]]:
    """Id and text of `count` chunks of a source from the chunk index `start` on, in order."""
    query = (
        select(KnowledgeChunk.id, KnowledgeChunk.text)
        .where(
            KnowledgeChunk.source_id == source_id,
            KnowledgeChunk.org_id == org_id,
            KnowledgeChunk.chunk_index >= start,
            KnowledgeChunk.chunk_index < start + count,
        )
        .order_by(KnowledgeChunk.chunk_index)
    )
    return [(chunk_id, text) for chunk_id, text in await session.execute(query)]


async def replace_vectors(session: AsyncSession, source: KnowledgeSource, batches: AsyncIterable[VectorBatch]) -> None:
    """Write all vectors of a source; a batch at a time is bound to its statement, while the event loop waits."""
    await session.execute(
        delete(ChunkVector).where(ChunkVector.source_id == source.id, ChunkVector.org_id == source.org_id)
    )
    async for batch in batches:
        await session.execute(
            insert(ChunkVector),
            [
                {
                    "chunk_id": chunk_id,
                    "window_index": window_index,
                    "org_id": source.org_id,
                    "persona_id": source.persona_id,
                    "source_id": source.id,
                    "embedding": embedding,
                }
                for chunk_id, window_index, embedding in zip(
                    batch.chunk_ids, batch.window_indexes, batch.embeddings, strict=True
                )
            ],
        )


async def delete_index(session: AsyncSession, source_id: UUID, *, org_id: UUID) -> None:
    for table in (ChunkVector, Posting, KnowledgeChunk):
        await session.execute(delete(table).where(table.source_id == source_id, table.org_id == org_id))


async def bury_source(session: AsyncSession, source: KnowledgeSource) -> None:
    """Set the tombstone: from the commit on, nothing finds the source."""
    source.deleted_at = await session.scalar(select(func.clock_timestamp()))
    source.searchable = "none"
    await session.flush()


async def delete_source(session: AsyncSession, source_id: UUID, *, org_id: UUID) -> None:
    await session.execute(
        delete(KnowledgeSource).where(KnowledgeSource.id == source_id, KnowledgeSource.org_id == org_id)
    )


def _batches(items: Iterable[T], weight_of: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, in batches of about `_BATCH_WEIGHT`; a statement's values are bound on the event loop."""
    batch: list[T] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += weight_of(item)
        if weight >= _BATCH_WEIGHT:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch
