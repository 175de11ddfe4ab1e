from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base, Timestamped

EMBEDDING_DIMENSIONS: Final = 384


class KnowledgeSource(Timestamped, Base):
    """An uploaded document and how far its indexing has come.

    `searchable` is what retrieval may use of it: nothing, its postings (`keyword`), or its vectors too (`full`).
    `term_count` is the number of analysed terms of all chunks, from which BM25's average length is computed. `language`
    is that of most of the text, `languages` are those of all chunks, and `embedding_model` made the vectors. `attempts`
    are those of the present stage's job; `run` rises whenever a job takes the source up, and names who may write to it.
    """

    __tablename__ = "knowledge_sources"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'processing', 'ready', 'failed')", name="status"),
        CheckConstraint("searchable IN ('none', 'keyword', 'full')", name="searchable"),
        Index(
            "uq_knowledge_sources_content",
            "persona_id",
            "sha256",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("ix_knowledge_sources_org_id", "org_id", "id"),
        Index("ix_knowledge_sources_persona_id", "persona_id", "id"),
        Index("ix_knowledge_sources_uploaded_by", "uploaded_by"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    persona_id: Mapped[UUID] = mapped_column(ForeignKey("personas.id", ondelete="CASCADE"))
    uploaded_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    title: Mapped[str]
    file_name: Mapped[str]
    type: Mapped[str]
    file_size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="pending")
    stage: Mapped[str] = mapped_column(server_default="queued")
    searchable: Mapped[str] = mapped_column(server_default="none")
    progress: Mapped[float] = mapped_column(server_default="0")
    units_done: Mapped[int] = mapped_column(server_default="0")
    units_total: Mapped[int | None]
    chunk_count: Mapped[int] = mapped_column(server_default="0")
    page_count: Mapped[int | None]
    token_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    term_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
    language: Mapped[str | None]
    languages: Mapped[list[str]] = mapped_column(ARRAY(String), server_default="{}")
    embedding_model: Mapped[str | None]
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    run: Mapped[int] = mapped_column(server_default="0")
    stage_started_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class KnowledgeChunk(Base):
    """A passage of a source.

    `locator` says where it stands, `place_starts` where in `text` each page and section begins (offset, page or null,
    heading or null; empty where there is but one), and `term_count` is its length for BM25.
    """

    __tablename__ = "knowledge_chunks"
    __table_args__ = (
        Index("uq_knowledge_chunks_place", "source_id", "chunk_index", unique=True),
        Index("ix_knowledge_chunks_org_id", "org_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    source_id: Mapped[UUID] = mapped_column(ForeignKey("knowledge_sources.id", ondelete="CASCADE"))
    chunk_index: Mapped[int]
    text: Mapped[str]
    token_count: Mapped[int]
    term_count: Mapped[int]
    language: Mapped[str]
    locator: Mapped[dict[str, Any]] = mapped_column(JSONB)
    place_starts: Mapped[list[list[Any]]] = mapped_column(JSONB)


class ChunkVector(Base):
    """The embedding of one window of a chunk; a chunk longer than the embedder reads has several."""

    __tablename__ = "chunk_vectors"
    __table_args__ = (
        Index("ix_chunk_vectors_persona_id", "persona_id"),
        Index("ix_chunk_vectors_source_id", "source_id"),
        Index("ix_chunk_vectors_org_id", "org_id"),
        Index(
            "ix_chunk_vectors_embedding",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "halfvec_cosine_ops"},
            # pgvector's own is 64, with which the search bench finds 96 % of the ten nearest chunks, and not 99 %.
            postgresql_with={"ef_construction": 200},
        ),
    )

    chunk_id: Mapped[UUID] = mapped_column(ForeignKey("knowledge_chunks.id", ondelete="CASCADE"), primary_key=True)
    window_index: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    persona_id: Mapped[UUID]
    source_id: Mapped[UUID] = mapped_column(ForeignKey("knowledge_sources.id", ondelete="CASCADE"))
    embedding: Mapped[Any] = mapped_column(HALFVEC(EMBEDDING_DIMENSIONS))


class Posting(Base):
    """Where a term occurs in a segment of a source, of which only a long one has more than the segment 0.

    Parallel arrays of chunk index, frequency, and the chunk's length in terms.
    """

    __tablename__ = "postings"
    __table_args__ = (
        Index("ix_postings_source_id", "source_id"),
        Index("ix_postings_org_id", "org_id"),
    )

    persona_id: Mapped[UUID] = mapped_column(primary_key=True)
    term: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(ForeignKey("knowledge_sources.id", ondelete="CASCADE"), primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    chunk_indexes: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    frequencies: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    lengths: Mapped[list[int]] = mapped_column(ARRAY(Integer))
