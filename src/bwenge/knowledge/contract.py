"""What other features may ask of a persona's knowledge: searching it, and linking to a place in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.identity import Principal
from bwenge.knowledge.sentences import split_sentences

__all__ = [
    "Fusion",
    "KnowledgeSearch",
    "LocatorFields",
    "SearchHit",
    "SearchQuery",
    "SearchResult",
    "SourceLinks",
    "split_sentences",
]

Fusion = Literal["relative", "rrf"]
LocatorFields = Mapping[str, Any]
"""The wire form of a place: `page`, `page_end`, `slide`, `heading`, `start_time`, `end_time`, `char_start`,
`char_end`, each only where it has a meaning. Pages and slides count from 1, times are seconds."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One question to the knowledge of one persona.

    `alpha` in [0, 1] weighs the dense side; None chooses by the language of the question.
    """

    org_id: UUID
    persona_id: UUID
    text: str
    top_k: int = 5
    alpha: float | None = None
    fusion: Fusion = "relative"


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A retrieved chunk.

    `score` is the fused score in [0, 1] and orders the hits; `dense_score` is a cosine similarity and `bm25_score` is
    unbounded, both as measured for this question, and 0.0 where that side did not find the chunk. `page_starts` are
    the offsets in `text` at which its pages begin.
    """

    chunk_id: UUID
    source_id: UUID
    title: str
    text: str
    language: str
    locator: LocatorFields
    score: float
    dense_score: float
    bm25_score: float
    page_starts: tuple[tuple[int, int], ...] = ()

    def locator_at(self, offset: int) -> LocatorFields:
        """The place of the character at `offset` of `text`: the chunk's, on the page where that character stands."""
        pages = [page for start, page in self.page_starts if start <= offset]
        return {**self.locator, "page": pages[-1], "page_end": pages[-1]} if pages else self.locator


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and the language (ISO 639-1) that the question was taken to be in."""

    hits: tuple[SearchHit, ...]
    language: str


class KnowledgeSearch(Protocol):
    """Retrieval, filtered by organisation and persona. Opens its own units of work."""

    async def search(self, query: SearchQuery) -> SearchResult: ...


class SourceLinks(Protocol):
    """Signed addresses, good for an hour, that open a source at a place without a login."""

    def source_url(self, source_id: UUID, org_id: UUID, *, locator: LocatorFields) -> str: ...


class PersonaAccess(Protocol):
    """Who may see and change a persona's knowledge; implemented by the personas' own feature."""

    async def require(self, session: AsyncSession, principal: Principal, persona_id: UUID, *, write: bool) -> None:
        """Raise `NotFound` for a persona that is not there, `Forbidden` for a writer who may not write it."""
        ...
