from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.providers.embedding.base import Tokenizer
from bwenge.providers.embedding.fake import FakeTokenizer
from bwenge.providers.embedding.graph_cache import published_model_directory
from bwenge.providers.embedding.minilm import WordPieceTokenizer
from bwenge.providers.embedding.windows import split_windows, window_spans

WORD_PIECES = WordPieceTokenizer(published_model_directory() / "tokenizer.json")
# Words that split into several pieces, scripts that decompose, marks, and anything else.
TEXTS = st.lists(
    st.sampled_from(
        ["water", "photosynthesis", "umunyarwandakazi", "한국어", "Ünïcode", "[SEP]", "ﬁ½", "\uff0c", "a" * 101]
    )
    | st.text(max_size=12),
    max_size=60,
).map(" ".join)


def numbered_words(number: int) -> str:
    return " ".join(f"w{index}" for index in range(number))


def test_a_text_that_fits_is_returned_as_it_is() -> None:
    text = f"  {numbered_words(254)}\n"

    assert split_windows(text, FakeTokenizer(), 254) == [text]


def test_five_hundred_pieces_become_two_full_overlapping_windows() -> None:
    words = numbered_words(500).split()

    windows = split_windows(" ".join(words), FakeTokenizer(), 254)

    assert [window.split() for window in windows] == [words[:254], words[246:]]


def test_one_piece_too_many_makes_two_windows_that_share_all_but_one_piece() -> None:
    words = numbered_words(255).split()

    windows = split_windows(" ".join(words), FakeTokenizer(), 254)

    assert [window.split() for window in windows] == [words[:254], words[1:]]


@pytest.mark.parametrize(("pieces", "expected"), [(508, 2), (509, 3), (762, 3), (763, 4), (10_000, 40)])
def test_no_more_windows_are_made_than_needed(pieces: int, expected: int) -> None:
    assert len(split_windows(numbered_words(pieces), FakeTokenizer(), 254)) == expected


def test_a_window_that_grows_when_read_alone_makes_all_narrower() -> None:
    # Eight of these characters are 24 pieces; any 10 pieces begin and end inside a character and retokenise to 12.
    windows = split_windows("한" * 8, WORD_PIECES, 10)

    assert all(WORD_PIECES.count(window) <= 10 for window in windows)
    assert len(windows) == 4


def test_a_character_of_more_pieces_than_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="one character is 3 word pieces, the limit is 2"):
        split_windows("한", WORD_PIECES, 2)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split_windows("water", FakeTokenizer(), 0)


@given(text=TEXTS, max_tokens=st.integers(1, 20))
def test_windows_of_words_cover_every_piece_and_never_exceed_the_limit(text: str, max_tokens: int) -> None:
    assert_law(text, FakeTokenizer(), max_tokens)


@given(text=TEXTS, max_tokens=st.integers(12, 40))
def test_windows_of_word_pieces_cover_every_piece_and_never_exceed_the_limit(text: str, max_tokens: int) -> None:
    assert_law(text, WORD_PIECES, max_tokens)


def assert_law(text: str, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Every piece lies whole inside a window, the windows advance, and each is within the limit as its own text."""
    spans = window_spans(text, tokenizer, max_tokens)

    assert all(any(start <= left and right <= end for start, end in spans) for left, right in tokenizer.offsets(text))
    assert all(earlier <= later for earlier, later in pairwise(spans))
    assert all(tokenizer.count(window) <= max_tokens for window in split_windows(text, tokenizer, max_tokens))
