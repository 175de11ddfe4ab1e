"""Wire shapes of the knowledge API."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp
from bwenge.knowledge.contract import Fusion, SearchHit
from bwenge.knowledge.models import KnowledgeChunk, KnowledgeSource
from bwenge.knowledge.stages import STAGE_SHARE

SourceStatusName = Literal["pending", "processing", "ready", "failed"]


class UploadAccepted(ResponseBody):
    """Both ids are equal; `duplicate` says that this content was there already."""

    upload_id: UUID
    source_id: UUID
    status: SourceStatusName
    message: str
    duplicate: bool


class SourceStatus(ResponseBody):
    source_id: UUID
    persona_id: UUID
    title: str
    type: str
    status: SourceStatusName
    stage: Literal["queued", "extracting", "ocr", "transcribing", "chunking", "embedding", "indexing", "done"]
    progress: float = Field(ge=0, le=1)
    searchable: Literal["none", "keyword", "full"]
    queue_position: int | None
    units_done: int
    units_total: int | None
    eta_seconds: float | None
    chunk_count: int
    page_count: int | None
    token_count: int
    file_size: int
    language: str | None
    warnings: list[dict[str, Any]]
    error_code: str | None
    error_message: str | None
    attempts: int
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, source: KnowledgeSource, *, queue_position: int | None = None) -> "SourceStatus":
        own = {name: getattr(source, name) for name in cls.model_fields if hasattr(source, name)}
        return cls.model_validate(
            own | {"source_id": source.id, "queue_position": queue_position, "eta_seconds": _eta_seconds(source)}
        )


def _eta_seconds(source: KnowledgeSource) -> float | None:
    """The embedding's time left at its rate so far; nothing else of a source takes long enough to foretell."""
    begun, done = source.stage_started_at, source.progress - STAGE_SHARE["embedding"][0]
    if source.stage != "embedding" or begun is None or done <= 0:
        return None
    elapsed = (datetime.now(UTC) - begun).total_seconds()
    return round(elapsed * (1 - source.progress) / done, 1)


class ChunkItem(ResponseBody):
    chunk_id: UUID
    chunk_index: int
    text: str
    token_count: int
    language: str
    locator: dict[str, Any]

    @classmethod
    def of(cls, chunk: KnowledgeChunk) -> "ChunkItem":
        return cls(
            chunk_id=chunk.id,
            chunk_index=chunk.chunk_index,
            text=chunk.text,
            token_count=chunk.token_count,
            language=chunk.language,
            locator=chunk.locator,
        )


class SearchRequest(RequestBody):
    persona_id: UUID
    query: str = Field(min_length=1, max_length=8_000)
    top_k: int = Field(default=5, ge=1, le=50)
    alpha: float | None = Field(default=None, ge=0, le=1, description="Weight of the dense side; by language if absent")
    fusion: Fusion = "relative"


class SearchItem(ResponseBody):
    chunk_id: UUID
    source_id: UUID
    title: str
    text: str
    score: float
    dense_score: float
    bm25_score: float
    locator: dict[str, Any]

    @classmethod
    def of(cls, hit: SearchHit) -> "SearchItem":
        return cls.model_validate(hit)


class SearchResults(ResponseBody):
    items: list[SearchItem]
