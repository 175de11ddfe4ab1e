"""Documents that nobody here made: a textbook, hostile files, and a sample of odd PDFs."""

import asyncio
import re
import time
from pathlib import Path

import pypdfium2
import pytest

from bwenge.knowledge.chunking import chunk_blocks
from bwenge.knowledge.parsing.base import BLOCK_SEPARATOR, Block, FailureCode, ParseFailure, place
from bwenge.knowledge.parsing.pdf import parse_pdf
from bwenge.knowledge.parsing.sandbox import extract
from bwenge.knowledge.sniffing import MediaType, UnsupportedMedia, sniff
from tests.conftest import CORPUS
from tests.knowledge.parsing.sample_files import Observed
from tests.knowledge.test_chunking import MiniLMTokenizer

pytestmark = pytest.mark.corpus

WORD = re.compile(r"\w+")
HOSTILE_SECONDS = 20.0

HOSTILE = {
    "billion_laughs.docx": FailureCode.UNREADABLE,
    "xxe_file.docx": FailureCode.UNREADABLE,
    "bomb_300MB.docx": FailureCode.TOO_LARGE,
    "truncated.docx": FailureCode.UNREADABLE,
    "page_tree_loop.pdf": FailureCode.UNREADABLE,
    "empty.pdf": FailureCode.EMPTY_FILE,
}
UNSUPPORTED = [
    "exe_as.pdf",
    "bad_utf8.txt",
    "many_entries_60000.zip",
    "traversal.zip",
    "symlink.tar",
    "pixels_60000x60000.png",
]


@pytest.fixture(scope="module")
def book() -> Path:
    return CORPUS / "book" / "college.pdf"


@pytest.fixture(scope="module")
def raw_pages(book: Path) -> list[str]:
    """The text of each page as PDFium gives it, without the page number, which stands first in the content."""
    document = pypdfium2.PdfDocument(book)
    return [document[index].get_textpage().get_text_range() for index in range(len(document))]


@pytest.fixture(scope="module")
def book_blocks(book: Path) -> list[Block]:
    return list(place(parse_pdf(book, Observed(), max_pages=1000)))


def words(text: str) -> list[str]:
    return WORD.findall(text.replace("\ufffe", ""))


def test_each_page_of_the_book_keeps_its_words_under_the_number_printed_on_it(
    raw_pages: list[str], book_blocks: list[Block]
) -> None:
    by_page: dict[int, list[str]] = {}
    for block in book_blocks:
        assert block.page is not None
        by_page.setdefault(block.page, []).append(block.text)
    for number, raw in enumerate(raw_pages, start=1):
        printed, _, body = raw.partition("\r\n")
        assert int(printed) == number
        assert "".join(words(" ".join(by_page[number]))) == "".join(words(body))


def test_the_chapters_of_the_book_are_its_top_headings(book_blocks: list[Block]) -> None:
    chapters = [block.text for block in book_blocks if block.level == 1]
    assert chapters[:3] == ["College success", "Why College?", "It’s All in the Mindset"]


def test_every_chunk_of_the_book_stands_on_the_pages_that_it_names(
    raw_pages: list[str], book_blocks: list[Block]
) -> None:
    whole = BLOCK_SEPARATOR.join(block.text for block in book_blocks)
    chunks = list(chunk_blocks(book_blocks, MiniLMTokenizer()))
    for chunk in chunks:
        locator = chunk.locator
        assert locator.page is not None
        assert locator.page_end is not None
        inside = (block for block in book_blocks if block.char_end > locator.char_start and block.kind != "heading")
        begin = max(locator.char_start, next(inside, book_blocks[0]).char_start)
        own = words(whole[begin : locator.char_end])
        first, last = ("".join(words(raw_pages[page - 1])) for page in (locator.page, locator.page_end))
        assert "".join(own[:3]) in first
        assert "".join(own[-3:]) in last
        assert chunk.token_count <= 500
    spans = [(chunk.locator.page_end or 0) - (chunk.locator.page or 0) for chunk in chunks]
    assert max(spans) <= 2
    assert sum(span == 0 for span in spans) > 0.7 * len(spans)


async def test_the_book_in_both_formats_has_the_same_words(book: Path, tmp_path: Path) -> None:
    found = []
    for path in (book, book.with_suffix(".docx")):
        folder = tmp_path / path.suffix[1:]
        folder.mkdir()
        extraction = await extract(path, sniff(path), work_dir=folder)
        found.append({word for block in extraction.blocks() for word in words(block.text)})
    pdf, docx = found
    assert len(pdf & docx) > 0.97 * len(pdf | docx)


def test_reading_with_layout_takes_about_twice_the_time_of_bare_text(book: Path) -> None:
    def bare() -> None:
        document = pypdfium2.PdfDocument(book)
        for index in range(len(document)):
            document[index].get_textpage().get_text_range()

    def ours() -> None:
        list(place(parse_pdf(book, Observed(), max_pages=1000)))

    def seconds(best_of: int = 3) -> tuple[float, float]:
        times: list[tuple[float, float]] = []
        for _ in range(best_of):
            started = time.process_time()
            bare()
            middle = time.process_time()
            ours()
            times.append((middle - started, time.process_time() - middle))
        return min(first for first, _ in times), min(second for _, second in times)

    bare_seconds, our_seconds = seconds()
    assert our_seconds < 2.5 * bare_seconds  # The aim is 2; the rest is for a busy machine.


@pytest.mark.parametrize(("name", "code"), HOSTILE.items(), ids=HOSTILE.keys())
async def test_a_hostile_file_ends_soon_with_its_reason(tmp_path: Path, name: str, code: FailureCode) -> None:
    path = CORPUS / "docs_hostile" / name
    async with asyncio.timeout(HOSTILE_SECONDS):
        with pytest.raises(ParseFailure) as failure:
            await extract(path, sniff(path), work_dir=tmp_path)
    assert failure.value.code is code
    assert "root:" not in failure.value.message


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_file_of_another_type_is_refused_at_the_door(name: str) -> None:
    with pytest.raises(UnsupportedMedia):
        sniff(CORPUS / "docs_hostile" / name)


def sample(suffix: str, count: int) -> list[Path]:
    """Spread evenly over all of them, always the same."""
    paths = sorted((CORPUS / "docs").rglob(f"*{suffix}"))
    return paths[:: max(1, len(paths) // count)][:count]


@pytest.mark.parametrize(
    ("suffix", "count", "media_type"), [(".pdf", 60, MediaType.PDF), (".docx", 30, MediaType.DOCX)]
)
async def test_documents_from_bug_reports_are_read_or_fail_with_a_reason(
    tmp_path: Path, suffix: str, count: int, media_type: MediaType
) -> None:
    paths = sample(suffix, count)
    outcomes: dict[str, int] = {}
    for path in paths:
        try:
            async with asyncio.timeout(HOSTILE_SECONDS):
                extraction = await extract(path, media_type, work_dir=tmp_path)
            outcome = "read" if list(extraction.blocks()) else "blank"
        except ParseFailure as failure:
            outcome = failure.code
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes.keys() <= {"read", FailureCode.NO_TEXT, FailureCode.ENCRYPTED, FailureCode.UNREADABLE}
    assert outcomes["read"] > len(paths) / 2
    assert outcomes.get(FailureCode.UNREADABLE, 0) < 0.15 * len(paths)
