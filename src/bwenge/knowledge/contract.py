"""What other features may ask of a persona's knowledge: searching it, and linking to a place in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.identity import Principal
from bwenge.knowledge.locators import PlaceStart
from bwenge.knowledge.sentences import split_sentences

__all__ = [
    "CitedSources",
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
    unbounded, both as measured for this question, and 0.0 where that side did not find the chunk. `place_starts`
    say where in `text` its pages and sections begin, and are empty where `locator` is the place of all of it.
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
    place_starts: tuple[PlaceStart, ...] = ()

    def locator_at(self, offset: int) -> LocatorFields:
        """The place of the character at `offset` of `text`: the chunk's, with that character's page and heading."""
        begun = [start for start in self.place_starts if start.offset <= offset]
        if not begun:
            return self.locator
        _, page, heading = begun[-1]
        place = {**self.locator, "page": page, "page_end": page, "heading": heading}
        return {name: value for name, value in place.items() if value is not None}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and the language (ISO 639-1) that the question was taken to be in."""

    hits: tuple[SearchHit, ...]
    language: str


class KnowledgeSearch(Protocol):
    """Retrieval, filtered by organisation and persona. Opens its own units of work."""

    async def search(self, query: SearchQuery) -> SearchResult: ...

    async def existing(self, source_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        """Those of the sources that have not been deleted: what was found may be gone when an answer is finished."""
        ...


class SourceLinks(Protocol):
    """Signed addresses, good for an hour, that open a source at a place without a login."""

    def source_url(self, source_id: UUID, org_id: UUID, *, locator: LocatorFields) -> str: ...


class CitedSources(SourceLinks, Protocol):
    """The links of stored citations, whose sources may have been deleted since."""

    async def openable(self, session: AsyncSession, source_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        """Those of the sources that an address still opens, since neither they nor their personas were deleted."""
        ...


class PersonaAccess(Protocol):
    """Who may see and change a persona's knowledge; implemented by the personas' own feature."""

    async def require(self, session: AsyncSession, principal: Principal, persona_id: UUID, *, write: bool) -> None:
        """Raise `NotFound` for a persona that is not there, `Forbidden` for a writer who may not write it."""
        ...

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        """Those of the personas that have not been deleted."""
        ...
