"""What indexing writes for a source, computed without the database: chunk rows and BM25 postings."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bwenge.kit.ids import new_id
from bwenge.kit.storable import storable
from bwenge.knowledge.analysis import analyse
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.language import DEFAULT_LANGUAGE, detect_language


@dataclass(frozen=True, slots=True)
class ChunkRow:
    id: UUID
    chunk_index: int
    text: str
    token_count: int
    term_count: int
    language: str
    locator: dict[str, Any]
    page_starts: list[list[int]]


@dataclass(slots=True)
class PostingRow:
    """Parallel arrays: where the term occurs, how often, and how many terms that chunk has."""

    chunk_indexes: list[int] = field(default_factory=list)
    frequencies: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeywordIndex:
    chunks: list[ChunkRow]
    postings: dict[str, PostingRow]

    @property
    def token_count(self) -> int:
        return sum(chunk.token_count for chunk in self.chunks)

    @property
    def term_count(self) -> int:
        return sum(chunk.term_count for chunk in self.chunks)

    @property
    def language(self) -> str:
        """The language of most of the text."""
        weights: Counter[str] = Counter()
        for chunk in self.chunks:
            weights[chunk.language] += chunk.token_count
        return weights.most_common(1)[0][0] if weights else DEFAULT_LANGUAGE


def build_keyword_index(chunks: Iterable[Chunk]) -> KeywordIndex:
    rows: list[ChunkRow] = []
    postings: defaultdict[str, PostingRow] = defaultdict(PostingRow)
    for chunk in chunks:
        text = storable(chunk.text)
        language = detect_language(text)
        terms = Counter(analyse(text, language))
        length = terms.total()
        for term, frequency in terms.items():
            posting = postings[term]
            posting.chunk_indexes.append(chunk.index)
            posting.frequencies.append(frequency)
            posting.lengths.append(length)
        rows.append(
            ChunkRow(
                id=new_id(),
                chunk_index=chunk.index,
                text=text,
                token_count=chunk.token_count,
                term_count=length,
                language=language,
                locator=chunk.locator.as_dict(),
                page_starts=[list(start) for start in chunk.page_starts],
            )
        )
    return KeywordIndex(chunks=rows, postings=dict(postings))
