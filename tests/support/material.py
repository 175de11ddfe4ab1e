"""Personas and indexed sources, written through the product's own repository."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text

from bwenge.kit.db import Database
from bwenge.kit.ids import new_id
from bwenge.knowledge import repository
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.index_rows import build_keyword_index
from bwenge.knowledge.locators import Locator
from bwenge.knowledge.models import KnowledgeSource
from bwenge.persona.models import Persona
from bwenge.providers.embedding.fake import FakeEmbedder


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
    index = build_keyword_index(
        Chunk(index=number, text=chunk, token_count=len(chunk.split()), locator=Locator(char_start=0, char_end=1))
        for number, chunk in enumerate(texts)
    )
    embedder = FakeEmbedder()
    embeddings = await embedder.embed_documents([chunk.text for chunk in index.chunks])
    async with database.unit_of_work(org_id) as session:
        await repository.add_source(session, source)
        await repository.replace_keyword_index(session, source, index)
        source.chunk_count = len(index.chunks)
        source.term_count = index.term_count
        source.language = index.language
        if vectors:
            await repository.replace_vectors(
                session,
                source,
                [(chunk.id, 0, vector) for chunk, vector in zip(index.chunks, embeddings, strict=True)],
            )
    return source.id


async def tombstone(database: Database, org_id: UUID, source_id: UUID) -> None:
    async with database.unit_of_work(org_id) as session:
        await session.execute(text("UPDATE knowledge_sources SET deleted_at = now() WHERE id = :id"), {"id": source_id})
