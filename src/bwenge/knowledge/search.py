"""Hybrid search: exact BM25 and dense similarity, fused; filtered by organisation and persona."""

import asyncio
from collections.abc import Collection
from typing import Final
from uuid import UUID

from bwenge.kit.db import Database
from bwenge.knowledge import repository, retrieval
from bwenge.knowledge.analysis import analyse_query
from bwenge.knowledge.contract import SearchHit, SearchQuery, SearchResult
from bwenge.knowledge.fusion import alpha_for, fuse
from bwenge.knowledge.language import detect_language
from bwenge.knowledge.locators import PlaceStart
from bwenge.providers.embedding.base import Embedder

CANDIDATES: Final = 100
"""How many chunks each side brings to the fusion."""


class HybridSearch:
    """Implements `KnowledgeSearch`."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database = database
        self._embedder = embedder

    async def search(self, query: SearchQuery) -> SearchResult:
        """The best chunks for a question; the same question to the same material gives the same answer."""
        language, vector = await asyncio.gather(
            asyncio.to_thread(detect_language, query.text), self._embedder.embed_query(query.text)
        )
        scope = {"org_id": query.org_id, "persona_id": query.persona_id}
        async with self._database.unit_of_work(query.org_id) as session:
            material = await retrieval.find_material(session, **scope, embedding_model=self._embedder.name)
            if material.is_empty:
                return SearchResult(hits=(), language=language)
            terms = analyse_query(
                query.text,
                language=language,
                main_languages=material.main_languages,
                languages=material.languages,
            )
            bm25 = await retrieval.search_keywords(session, **scope, terms=terms, limit=CANDIDATES)
            dense = await retrieval.search_vectors(session, **scope, material=material, query=vector, limit=CANDIDATES)
            fused = fuse(
                dense,
                bm25,
                alpha=alpha_for(language) if query.alpha is None else query.alpha,
                method=query.fusion,
            )
            best = sorted(fused, key=lambda chunk_id: (-fused[chunk_id], chunk_id))[: query.top_k]
            found = await retrieval.load_chunks(session, best, **scope)
        return SearchResult(
            hits=tuple(
                _hit(found[chunk_id], score=fused[chunk_id], dense=dense, bm25=bm25)
                for chunk_id in best
                if chunk_id in found
            ),
            language=language,
        )

    async def existing(self, source_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        async with self._database.unit_of_work(org_id) as session:
            return await repository.existing_sources(session, source_ids, org_id=org_id)


def _hit(chunk: retrieval.FoundChunk, *, score: float, dense: dict[UUID, float], bm25: dict[UUID, float]) -> SearchHit:
    return SearchHit(
        chunk_id=chunk.chunk_id,
        source_id=chunk.source_id,
        title=chunk.title,
        text=chunk.text,
        language=chunk.language,
        locator=chunk.locator,
        place_starts=tuple(PlaceStart(*start) for start in chunk.place_starts),
        score=score,
        dense_score=dense.get(chunk.chunk_id, 0.0),
        bm25_score=bm25.get(chunk.chunk_id, 0.0),
    )
