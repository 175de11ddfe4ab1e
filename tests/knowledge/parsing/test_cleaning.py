import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge.parsing.base import BLOCK_SEPARATOR, Passage, place
from bwenge.knowledge.parsing.cleaning import clean, collapse, split_long


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("o\ufb03ce \ufb01nd", "office find"),
        ("soft\u00adhyphen", "softhyphen"),
        ("e\u0301cole", "\u00e9cole"),
        ("a\u00a0b\u2009c", "a b c"),
        ("nul\x00bell\x07", "nulbell"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\uf0b7 item", "\u2022 item"),
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne"),
        ("half \ud835 pair \ufffe", "half  pair "),
        ("plain text\twith tab", "plain text\twith tab"),
    ],
)
def test_unwanted_characters_are_mended(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_stored(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned


@given(st.text(st.characters(codec=None)))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


def test_collapsing_keeps_lines_and_loses_runs_of_blanks() -> None:
    assert collapse("  a   b\t c \n\n d ") == "a b c\n\nd"


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 10))
def test_pieces_of_a_long_text_are_bounded_and_lose_only_whitespace(text: str, limit: int) -> None:
    pieces = list(split_long(text, limit))
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@given(st.lists(st.text(alphabet="ab \n", max_size=20)))
def test_offsets_point_into_the_whole_text(texts: list[str]) -> None:
    blocks = list(place(Passage(text) for text in texts))
    whole = BLOCK_SEPARATOR.join(block.text for block in blocks)
    assert all(whole[block.char_start : block.char_end] == block.text for block in blocks)
