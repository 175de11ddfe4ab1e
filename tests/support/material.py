"""Personas and indexed sources, written through the product's own repository."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar
from uuid import UUID

import numpy as np
from sqlalchemy import text

from bwenge.kit.db import Database
from bwenge.kit.ids import new_id
from bwenge.knowledge import repository
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.index_rows import IndexSegment, IndexTotals, VectorBatch, index_segments
from bwenge.knowledge.locators import Locator
from bwenge.knowledge.models import KnowledgeSource
from bwenge.persona.models import Persona
from bwenge.providers.embedding.fake import FakeEmbedder

T = TypeVar("T")


async def add_persona(database: Database, org_id: UUID, *, name: str = "Gabriel") -> UUID:
    async with database.unit_of_work(org_id) as session:
        persona = Persona(
            id=new_id(),
            org_id=org_id,
            owner_id=None,
            name=name,
            tone={},
            rules={},
            sample_prompts=[],
            safety_rules=[],
            settings={},
        )
        session.add(persona)
    return persona.id


async def add_source(
    database: Database, org_id: UUID, persona_id: UUID, texts: Sequence[str], *, vectors: bool = True
) -> UUID:
    """A source whose chunks are the given texts, searchable by keyword and, with `vectors`, in full."""
    source = KnowledgeSource(
        id=new_id(),
        org_id=org_id,
        persona_id=persona_id,
        title="Lesson",
        file_name="lesson.txt",
        type="text",
        file_size=sum(map(len, texts)),
        sha256=new_id().hex,
        status="ready",
        stage="done",
        searchable="full" if vectors else "keyword",
    )
    segments = list(
        index_segments(
            Chunk(index=number, text=chunk, token_count=len(chunk.split()), locator=Locator(char_start=0, char_end=1))
            for number, chunk in enumerate(texts)
        )
    )
    totals = IndexTotals()
    for segment in segments:
        totals.add(segment)
    async with database.unit_of_work(org_id) as session:
        await repository.add_source(session, source)
        await repository.replace_keyword_index(session, source, _each(segments))
        source.chunk_count = totals.chunk_count
        source.term_count = totals.term_count
        source.language = totals.language
        source.languages = totals.languages
        if vectors:
            source.embedding_model = FakeEmbedder.name
            await repository.replace_vectors(session, source, _each([await _embedded(it) for it in segments]))
    return source.id


async def _embedded(segment: IndexSegment) -> VectorBatch:
    vectors = await FakeEmbedder().embed_documents([chunk.text for chunk in segment.chunks])
    return VectorBatch([chunk.id for chunk in segment.chunks], [0] * len(vectors), vectors.astype(np.float16))


async def _each(pieces: Sequence[T]) -> AsyncIterator[T]:
    for piece in pieces:
        yield piece


async def tombstone(database: Database, org_id: UUID, source_id: UUID) -> None:
    async with database.unit_of_work(org_id) as session:
        await session.execute(text("UPDATE knowledge_sources SET deleted_at = now() WHERE id = :id"), {"id": source_id})
