"""The queries of retrieval: exact BM25 over postings, and the nearest vectors.

Every figure of BM25 is computed inside the query, from sources that are searchable and not deleted, so that there is no
counter to drift.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from numpy.typing import NDArray
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.knowledge.models import EMBEDDING_DIMENSIONS, KnowledgeChunk, KnowledgeSource

K1: Final = 1.2
B: Final = 0.75

EXACT_LIMIT: Final = 20_000
"""Up to this many chunks of a persona every vector is compared; above, the HNSW index is walked."""

# For one transaction. A plan made for any persona and any limit, which PostgreSQL keeps after a few executions, sorts
# all vectors of a large persona instead of walking the index, and compares each vector's source with a list one by one.
# The iterative scan walks on where a filter discards what it met.
_PLANNING: Final = text("""
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
           set_config('hnsw.ef_search', '200', true),
           set_config('hnsw.iterative_scan', 'relaxed_order', true)
""")

_LIVE: Final = """
    SELECT id, chunk_count, term_count FROM knowledge_sources
    WHERE org_id = :org_id AND persona_id = :persona_id AND searchable <> 'none' AND deleted_at IS NULL
"""

# Lucene's variant: idf = ln(1 + (N - df + 0.5) / (df + 0.5)), and no (k1 + 1) in the numerator. What does not depend
# on the chunk is computed once a term, in floating point: PostgreSQL takes a literal such as 0.5 for an exact number,
# whose arithmetic is many times slower. Unnesting in the select list avoids a join for each posting.
_BM25: Final = text(f"""
    WITH live AS MATERIALIZED ({_LIVE}),
    corpus AS MATERIALIZED (
        SELECT sum(chunk_count)::float8 AS n, greatest(sum(term_count)::float8 / sum(chunk_count), 1) AS average
        FROM live
    ),
    asked AS MATERIALIZED (SELECT * FROM unnest(CAST(:terms AS text[]), CAST(:words AS text[])) AS asked (term, word)),
    hits AS MATERIALIZED (
        SELECT asked.word, p.source_id, p.chunk_indexes, p.frequencies, p.lengths
        FROM postings p JOIN live ON live.id = p.source_id JOIN asked ON asked.term = p.term
        WHERE p.org_id = :org_id AND p.persona_id = :persona_id AND p.term = ANY(:terms)
    ),
    weights AS MATERIALIZED (
        SELECT word,
               ln(1 + (n - df + 0.5::float8) / (df + 0.5::float8)) AS idf,
               {K1 * (1 - B)}::float8 AS base,
               {K1 * B}::float8 / average AS slope
        FROM (SELECT word, sum(cardinality(chunk_indexes))::float8 AS df FROM hits GROUP BY word) frequencies
        CROSS JOIN corpus
    )
    SELECT c.id, best.score
    FROM (
        SELECT source_id, chunk_index, sum(idf * tf / (tf + base + slope * length)) AS score
        FROM (
            SELECT source_id, idf, base, slope,
                   unnest(chunk_indexes) AS chunk_index, unnest(frequencies) AS tf, unnest(lengths) AS length
            FROM hits JOIN weights USING (word)
        ) occurrences
        GROUP BY source_id, chunk_index
        ORDER BY score DESC, source_id, chunk_index
        LIMIT :limit
    ) best
    JOIN knowledge_chunks c ON c.source_id = best.source_id AND c.chunk_index = best.chunk_index
    ORDER BY best.score DESC, c.id
""")  # noqa: S608  # the only parts put in are this module's own constants

# Exact, since no index has this order, and a chunk counts as its nearest window. OFFSET 0 is a fence: without it, the
# vectors themselves would be carried into the grouping, which then spills to disk.
_DENSE_EXACT: Final = text("""
    SELECT chunk_id, max(similarity) AS similarity FROM (
        SELECT v.chunk_id, 1 - (v.embedding <=> :query) AS similarity
        FROM chunk_vectors v
        WHERE v.org_id = :org_id AND v.persona_id = :persona_id AND v.source_id = ANY(:sources)
        OFFSET 0
    ) compared
    GROUP BY chunk_id
    ORDER BY similarity DESC, chunk_id
    LIMIT :limit
""").bindparams(bindparam("query", type_=HALFVEC(EMBEDDING_DIMENSIONS)))

_DENSE_APPROXIMATE: Final = text("""
    SELECT chunk_id, max(similarity) AS similarity FROM (
        SELECT v.chunk_id, 1 - (v.embedding <=> :query) AS similarity
        FROM chunk_vectors v
        WHERE v.org_id = :org_id AND v.persona_id = :persona_id AND v.source_id = ANY(:sources)
        ORDER BY v.embedding <=> :query
        LIMIT 2 * :limit
    ) nearest
    GROUP BY chunk_id
    ORDER BY similarity DESC, chunk_id
    LIMIT :limit
""").bindparams(bindparam("query", type_=HALFVEC(EMBEDDING_DIMENSIONS)))


@dataclass(frozen=True, slots=True)
class Material:
    """What of a persona's knowledge can be searched at this moment.

    `main_languages` are those of most of each source, `languages` those of all passages; `full_sources` are those whose
    vectors are complete and of the present embedder's model.
    """

    main_languages: frozenset[str]
    languages: frozenset[str]
    full_sources: tuple[UUID, ...]
    full_chunks: int

    @property
    def is_empty(self) -> bool:
        return not self.languages


async def find_material(session: AsyncSession, *, org_id: UUID, persona_id: UUID, embedding_model: str) -> Material:
    rows = (
        await session.execute(
            select(
                KnowledgeSource.id,
                KnowledgeSource.language,
                KnowledgeSource.languages,
                KnowledgeSource.searchable,
                KnowledgeSource.embedding_model,
                KnowledgeSource.chunk_count,
            ).where(
                KnowledgeSource.org_id == org_id,
                KnowledgeSource.persona_id == persona_id,
                KnowledgeSource.searchable != "none",
                KnowledgeSource.deleted_at.is_(None),
            )
        )
    ).all()
    full = [row for row in rows if row.searchable == "full" and row.embedding_model == embedding_model]
    return Material(
        main_languages=frozenset(row.language for row in rows if row.language),
        languages=frozenset(language for row in rows for language in row.languages),
        full_sources=tuple(row.id for row in full),
        full_chunks=sum(row.chunk_count for row in full),
    )


async def search_keywords(
    session: AsyncSession, *, org_id: UUID, persona_id: UUID, terms: Mapping[str, str], limit: int
) -> dict[UUID, float]:
    """BM25 scores of the best chunks, best first.

    `terms` gives for each term the word that it is a form of: the forms of one word have one document frequency.
    """
    if not terms:
        return {}
    scope = {"org_id": org_id, "persona_id": persona_id, "limit": limit}
    rows = await session.execute(_BM25, scope | {"terms": list(terms), "words": list(terms.values())})
    return {chunk_id: float(score) for chunk_id, score in rows}


async def search_vectors(
    session: AsyncSession,
    *,
    org_id: UUID,
    persona_id: UUID,
    material: Material,
    query: NDArray[Any],
    limit: int,
) -> dict[UUID, float]:
    """Cosine similarities of the nearest chunks, nearest first, among sources whose vectors are complete."""
    if not material.full_sources:
        return {}
    await session.execute(_PLANNING)
    rows = await session.execute(
        _DENSE_APPROXIMATE if material.full_chunks > EXACT_LIMIT else _DENSE_EXACT,
        {
            "org_id": org_id,
            "persona_id": persona_id,
            "sources": list(material.full_sources),
            "query": query,
            "limit": limit,
        },
    )
    return {chunk_id: float(similarity) for chunk_id, similarity in rows}


@dataclass(frozen=True, slots=True)
class FoundChunk:
    chunk_id: UUID
    source_id: UUID
    title: str
    text: str
    language: str
    locator: Mapping[str, Any]
    place_starts: Sequence[Sequence[Any]]


async def load_chunks(
    session: AsyncSession, chunk_ids: Sequence[UUID], *, org_id: UUID, persona_id: UUID
) -> dict[UUID, FoundChunk]:
    """The chunks, but for those whose source was deleted a moment ago."""
    rows = await session.execute(
        select(
            KnowledgeChunk.id,
            KnowledgeChunk.source_id,
            KnowledgeSource.title,
            KnowledgeChunk.text,
            KnowledgeChunk.language,
            KnowledgeChunk.locator,
            KnowledgeChunk.place_starts,
        )
        .join(KnowledgeSource, KnowledgeSource.id == KnowledgeChunk.source_id)
        .where(
            KnowledgeChunk.id.in_(chunk_ids),
            KnowledgeChunk.org_id == org_id,
            KnowledgeSource.persona_id == persona_id,
            KnowledgeSource.deleted_at.is_(None),
        )
    )
    return {row[0]: FoundChunk(*row) for row in rows}
