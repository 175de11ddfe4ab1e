"""A persona with material in memory: what `PersonaReplies` asks of its neighbours, without a database."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from bwenge.knowledge.contract import LocatorFields, SearchHit, SearchQuery, SearchResult
from bwenge.persona.errors import PersonaNotFound
from bwenge.persona.profile import PersonaProfile

ORG_ID = UUID("018f0000-0000-7000-8000-000000000001")
PERSONA_ID = UUID("018f0000-0000-7000-8000-000000000002")

PHOTOSYNTHESIS = (
    "Photosynthesis\n\n"
    "Photosynthesis turns light, water and carbon dioxide into sugar inside the chloroplasts of a leaf. "
    "It releases oxygen as a by-product. "
    "What would happen to a plant that is kept in the dark?\n\n"
    "Explain the two stages of photosynthesis in your own words."
)
RESPIRATION = (
    "Respiration breaks sugar down in the mitochondria and frees the energy that cells need. "
    "Every living cell respires by day and by night."
)
ROMANS = "The Roman army built straight roads of stone across its provinces. Milestones told the distance to Rome."


def hit(text: str, *, title: str = "Biology", page: int = 1, language: str = "en", score: float = 0.9) -> SearchHit:
    return SearchHit(
        chunk_id=uuid5(PERSONA_ID, text),
        source_id=uuid5(PERSONA_ID, title),
        title=title,
        text=text,
        language=language,
        locator={"page": page, "char_start": page * 1000, "char_end": page * 1000 + len(text)},
        score=score,
        dense_score=0.5,
        bm25_score=3.0,
    )


class StoredPersonas:
    """One persona; every other id is unknown."""

    def __init__(self, profile: PersonaProfile | None = None, **settings: Any) -> None:
        self._profile = profile or PersonaProfile(name="Mwalimu Keza", settings=settings)

    async def load(self, org_id: UUID, persona_id: UUID) -> PersonaProfile:
        if (org_id, persona_id) != (ORG_ID, PERSONA_ID):
            raise PersonaNotFound
        return self._profile


class FixedSearch:
    """Finds the same hits for every query and remembers the queries. A source in `deleted` is gone at the end."""

    def __init__(self, hits: Sequence[SearchHit], *, language: str = "en") -> None:
        self.queries: list[SearchQuery] = []
        self.deleted: set[UUID] = set()
        self._result = SearchResult(tuple(hits), language)

    async def search(self, query: SearchQuery) -> SearchResult:
        self.queries.append(query)
        return replace(self._result, hits=self._result.hits[: query.top_k])

    async def existing(self, source_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        assert org_id == ORG_ID
        return frozenset(source_ids) - self.deleted


class PlainLinks:
    def source_url(self, source_id: UUID, org_id: UUID, *, locator: LocatorFields) -> str:
        return f"/knowledge/{source_id}/file?org={org_id}#page={locator.get('page')}"
