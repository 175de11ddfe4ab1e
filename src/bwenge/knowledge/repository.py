"""Every query on sources and on what indexing writes. The queries of retrieval stand in `retrieval`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.pagination import PageRequest
from bwenge.knowledge.index_rows import ChunkRow, KeywordIndex
from bwenge.knowledge.models import ChunkVector, KnowledgeChunk, KnowledgeSource, Posting

_BATCH: Final = 1_000

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


async def find_claimed(session: AsyncSession, source_id: UUID, *, org_id: UUID, attempt: int) -> KnowledgeSource | None:
    """The source, locked as by `find_source`, if it is still this attempt's to work on."""
    query = select(KnowledgeSource).where(_claimed(source_id, org_id=org_id, attempt=attempt))
    return (await session.execute(query.with_for_update(key_share=True))).scalar_one_or_none()


def _claimed(source_id: UUID, *, org_id: UUID, attempt: int) -> ColumnElement[bool]:
    return and_(
        KnowledgeSource.id == source_id,
        KnowledgeSource.org_id == org_id,
        KnowledgeSource.status == "processing",
        KnowledgeSource.attempts == attempt,
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
    session: AsyncSession, *, org_id: UUID, persona_id: UUID | None, status: str | None, page: PageRequest
) -> Sequence[KnowledgeSource]:
    """Newest first; one row more than the page holds, where there are more."""
    query = select(KnowledgeSource).where(KnowledgeSource.org_id == org_id, KnowledgeSource.deleted_at.is_(None))
    if persona_id is not None:
        query = query.where(KnowledgeSource.persona_id == persona_id)
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
    session: AsyncSession, source_id: UUID, *, org_id: UUID, attempt: int, values: Mapping[str, Any]
) -> bool:
    """Change a source that is still this attempt's to work on. Returns whether it is."""
    changed = await session.scalar(
        update(KnowledgeSource)
        .where(_claimed(source_id, org_id=org_id, attempt=attempt))
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


async def replace_keyword_index(session: AsyncSession, source: KnowledgeSource, index: KeywordIndex) -> None:
    """Write chunks and postings in the place of any that an interrupted attempt left."""
    await delete_index(session, source.id, org_id=source.org_id)
    for batch in _batches(index.chunks):
        await session.execute(insert(KnowledgeChunk), [_chunk_values(source, chunk) for chunk in batch])
    for terms in _batches(list(index.postings.items())):
        await session.execute(
            insert(Posting),
            [
                {
                    "persona_id": source.persona_id,
                    "term": term,
                    "source_id": source.id,
                    "org_id": source.org_id,
                    "chunk_indexes": posting.chunk_indexes,
                    "frequencies": posting.frequencies,
                    "lengths": posting.lengths,
                }
                for term, posting in terms
            ],
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
        "page_starts": chunk.page_starts,
    }


async def chunk_texts(session: AsyncSession, source_id: UUID, *, org_id: UUID) -> Sequence[tuple[UUID, str]]:
    query = (
        select(KnowledgeChunk.id, KnowledgeChunk.text)
        .where(KnowledgeChunk.source_id == source_id, KnowledgeChunk.org_id == org_id)
        .order_by(KnowledgeChunk.chunk_index)
    )
    return [(chunk_id, text) for chunk_id, text in await session.execute(query)]


async def replace_vectors(
    session: AsyncSession, source: KnowledgeSource, vectors: Sequence[tuple[UUID, int, NDArray[Any]]]
) -> None:
    """Write all vectors of a source: chunk id, window index, embedding of shape (EMBEDDING_DIMENSIONS,)."""
    await session.execute(
        delete(ChunkVector).where(ChunkVector.source_id == source.id, ChunkVector.org_id == source.org_id)
    )
    for batch in _batches(vectors):
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
                for chunk_id, window_index, embedding in batch
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


def _batches(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
