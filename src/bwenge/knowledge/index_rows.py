"""What indexing writes for a source, computed without the database: chunk rows, BM25 postings and vectors."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from bwenge.kit.ids import new_id
from bwenge.kit.storable import storable
from bwenge.knowledge.analysis import analyse
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.language import DEFAULT_LANGUAGE, detect_language

SEGMENT_CHUNKS: Final = 1_000
SEGMENT_WEIGHT: Final = 250_000
"""What of a source's index is in memory at a time, in postings; an ordinary text has 1,000 chunks below it."""

_TERM_WEIGHT: Final = 5
"""A term that is new to the segment takes as much memory as so many postings, or more."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    id: UUID
    chunk_index: int
    text: str
    token_count: int
    term_count: int
    language: str
    locator: dict[str, Any]
    place_starts: list[list[Any]]


@dataclass(slots=True)
class PostingRow:
    """Parallel arrays: where the term occurs, how often, and how many terms that chunk has."""

    chunk_indexes: list[int] = field(default_factory=list)
    frequencies: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


@dataclass(slots=True)
class IndexSegment:
    """Consecutive chunks of a source and the postings of these chunks: as much of an index as is made at a time."""

    number: int
    chunks: list[ChunkRow] = field(default_factory=list)
    postings: dict[str, PostingRow] = field(default_factory=dict)


@dataclass(slots=True)
class IndexTotals:
    """What is told of a source's index as a whole."""

    chunk_count: int = 0
    token_count: int = 0
    term_count: int = 0
    _tokens: Counter[str] = field(default_factory=Counter)

    def add(self, segment: IndexSegment) -> None:
        for chunk in segment.chunks:
            self.chunk_count += 1
            self.token_count += chunk.token_count
            self.term_count += chunk.term_count
            self._tokens[chunk.language] += chunk.token_count

    @property
    def language(self) -> str:
        """The language of most of the text."""
        return self._tokens.most_common(1)[0][0] if self._tokens else DEFAULT_LANGUAGE

    @property
    def languages(self) -> list[str]:
        """Those of all chunks."""
        return sorted(self._tokens)


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Embeddings of windows: of which chunk, the how manieth window of it, and a row each in half precision."""

    chunk_ids: list[UUID]
    window_indexes: list[int]
    embeddings: NDArray[np.float16]


def index_segments(chunks: Iterable[Chunk]) -> Iterator[IndexSegment]:
    """The index of a source in segments of bounded size; a book of a few hundred pages is one."""
    segment, size = IndexSegment(0), 0
    for chunk in chunks:
        size += _take(segment, chunk)
        if size >= SEGMENT_WEIGHT or len(segment.chunks) >= SEGMENT_CHUNKS:
            yield segment
            segment, size = IndexSegment(segment.number + 1), 0
    if segment.chunks:
        yield segment


def _take(segment: IndexSegment, chunk: Chunk) -> int:
    """Returns the weight of what the chunk adds."""
    text = storable(chunk.text)
    language = detect_language(text)
    terms = Counter(analyse(text, language))
    length = terms.total()
    weight = len(terms) + _TERM_WEIGHT * sum(term not in segment.postings for term in terms)
    for term, frequency in terms.items():
        posting = segment.postings.setdefault(term, PostingRow())
        posting.chunk_indexes.append(chunk.index)
        posting.frequencies.append(frequency)
        posting.lengths.append(length)
    segment.chunks.append(
        ChunkRow(
            id=new_id(),
            chunk_index=chunk.index,
            text=text,
            token_count=chunk.token_count,
            term_count=length,
            language=language,
            locator=chunk.locator.as_dict(),
            place_starts=[list(start) for start in chunk.place_starts],
        )
    )
    return weight
