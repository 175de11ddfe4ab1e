"""What indexing would write: chunk rows and postings, against a count by hand."""

import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge import index_rows
from bwenge.knowledge.analysis import analyse
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.index_rows import IndexSegment, IndexTotals, index_segments
from bwenge.knowledge.language import detect_language
from bwenge.knowledge.locators import Locator
from bwenge.knowledge.spool import Spool

ENGLISH = "A percentage is a number expressed as a fraction of one hundred."
FRENCH = "Un pourcentage est un nombre exprimé comme une fraction de cent."


def chunks_of(texts: Iterable[str], *, tokens: int = 10) -> Iterator[Chunk]:
    for number, text in enumerate(texts):
        yield Chunk(index=number, text=text, token_count=tokens, locator=Locator(char_start=0, char_end=len(text)))


def index_of(*texts: str) -> IndexSegment:
    """The index of so few chunks that one segment holds it."""
    return next(index_segments(chunks_of(texts)), IndexSegment(0))


def totals_of(*texts: str) -> IndexTotals:
    totals = IndexTotals()
    for segment in index_segments(chunks_of(texts)):
        totals.add(segment)
    return totals


words = st.lists(st.sampled_from("ratio rate interest the percentage équation 12 maji".split()), max_size=30)


@given(st.lists(words.map(" ".join), max_size=5))
def test_postings_agree_with_a_count_of_each_chunks_terms(texts: list[str]) -> None:
    index = index_of(*texts)
    counted = [Counter(analyse(chunk.text, chunk.language)) for chunk in index.chunks]
    assert index.postings.keys() == {term for counts in counted for term in counts}
    for term, posting in index.postings.items():
        expected = [(n, counts[term], counts.total()) for n, counts in enumerate(counted) if counts[term]]
        assert list(zip(posting.chunk_indexes, posting.frequencies, posting.lengths, strict=True)) == expected


@given(st.lists(words.map(" ".join), max_size=5))
def test_a_chunks_length_is_the_number_of_its_terms_and_the_sources_is_their_sum(texts: list[str]) -> None:
    index = index_of(*texts)
    assert [chunk.term_count for chunk in index.chunks] == [
        len(analyse(chunk.text, chunk.language)) for chunk in index.chunks
    ]
    assert totals_of(*texts).term_count == sum(chunk.term_count for chunk in index.chunks)


def test_ids_rise_with_the_reading() -> None:
    ids = [chunk.id for chunk in index_of(*["text"] * 50).chunks]
    assert ids == sorted(set(ids))


def test_each_chunk_is_analysed_in_its_own_language() -> None:
    index = index_of(ENGLISH, FRENCH)
    assert [chunk.language for chunk in index.chunks] == ["en", "fr"]
    assert "un" not in index.postings
    assert "fraction" in index.postings


def test_a_source_is_in_the_language_of_most_of_its_text() -> None:
    totals = totals_of(ENGLISH, FRENCH, FRENCH)
    assert (totals.language, totals.languages) == ("fr", ["en", "fr"])


def test_a_source_without_chunks_is_empty_and_english() -> None:
    totals = totals_of()
    assert (totals.chunk_count, totals.token_count, totals.term_count, totals.language) == (0, 0, 0, "en")
    assert list(index_segments(iter(()))) == []


@pytest.mark.parametrize(("bound", "most"), [("SEGMENT_CHUNKS", 3), ("SEGMENT_WEIGHT", 20)])
def test_segments_are_bounded_and_together_are_the_index_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    texts = [f"ratio number{number}" for number in range(10)]
    whole = index_of(*texts)
    monkeypatch.setattr(index_rows, bound, most)
    segments = list(index_segments(chunks_of(texts)))
    assert [segment.number for segment in segments] == [0, 1, 2, 3]
    assert max(len(segment.chunks) for segment in segments) == 3
    assert [chunk.text for segment in segments for chunk in segment.chunks] == texts
    assert [index for segment in segments for index in segment.postings["ratio"].chunk_indexes] == list(range(10))
    assert {term for segment in segments for term in segment.postings} == whole.postings.keys()
    assert totals_of(*texts).chunk_count == 10


def peak_while_spooling(folder: Path, *, count: int) -> int:
    """Bytes that making an index of so many chunks and spooling it takes at the most."""
    texts = (" ".join(f"word{number}x{place}" for place in range(40)) for number in range(count))
    tracemalloc.start()
    try:
        with Spool[IndexSegment](folder) as spool:
            for segment in index_segments(chunks_of(texts)):
                spool.add(segment)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_longer_source_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(index_rows, "SEGMENT_CHUNKS", 50)
    detect_language(ENGLISH)  # loads its model, which stays
    short, long = (peak_while_spooling(tmp_path, count=count) for count in (100, 800))
    assert long < 1.5 * short


@pytest.mark.parametrize("unstorable", ["\x00", "\ud800"])
def test_what_the_database_cannot_hold_is_left_out(unstorable: str) -> None:
    assert index_of(f"Huye{unstorable} town").chunks[0].text == "Huye town"
