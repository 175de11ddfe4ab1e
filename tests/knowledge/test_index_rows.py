"""What indexing would write: chunk rows and postings, against a count by hand."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge.analysis import analyse
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.index_rows import KeywordIndex, build_keyword_index
from bwenge.knowledge.locators import Locator

ENGLISH = "A percentage is a number expressed as a fraction of one hundred."
FRENCH = "Un pourcentage est un nombre exprimé comme une fraction de cent."


def index_of(*texts: str, tokens: int = 10) -> KeywordIndex:
    return build_keyword_index(
        Chunk(index=number, text=text, token_count=tokens, locator=Locator(char_start=0, char_end=len(text)))
        for number, text in enumerate(texts)
    )


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
    assert index.term_count == sum(chunk.term_count for chunk in index.chunks)


def test_ids_rise_with_the_reading() -> None:
    ids = [chunk.id for chunk in index_of(*["text"] * 50).chunks]
    assert ids == sorted(set(ids))


def test_each_chunk_is_analysed_in_its_own_language() -> None:
    index = index_of(ENGLISH, FRENCH)
    assert [chunk.language for chunk in index.chunks] == ["en", "fr"]
    assert "un" not in index.postings
    assert "fraction" in index.postings


def test_a_source_is_in_the_language_of_most_of_its_text() -> None:
    assert index_of(ENGLISH, FRENCH, FRENCH).language == "fr"


def test_a_source_without_chunks_is_empty_and_english() -> None:
    index = index_of()
    assert (index.chunks, index.postings, index.token_count, index.language) == ([], {}, 0, "en")


@pytest.mark.parametrize("unstorable", ["\x00", "\ud800"])
def test_what_the_database_cannot_hold_is_left_out(unstorable: str) -> None:
    assert index_of(f"Huye{unstorable} town").chunks[0].text == "Huye town"
