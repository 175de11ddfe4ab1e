"""What every parser yields, how it reports, and the ways in which a document can fail.

This module is imported by the parsing process at its start, so it imports nothing but the standard library.
"""

import errno
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from bwenge.knowledge.parsing.cleaning import split_long

BlockKind = Literal["heading", "paragraph", "list_item", "table", "code"]
BLOCK_KINDS: frozenset[str] = frozenset(get_args(BlockKind))

MAX_BLOCK_CHARS = 100_000
"""A longer text is split, so that one line of the blocks file is bounded whatever the document holds."""

BLOCK_SEPARATOR = "\n\n"
"""Stands between two blocks in a document's whole extracted text; offsets count it."""

MAX_HEADING_LEVEL = 6

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Of an `OSError`: the disk is full, which says nothing of the document."""


class MediaType(StrEnum):
    PDF = "pdf"
    DOCX = "docx"
    TEXT = "text"
    MARKDOWN = "markdown"


class FailureCode(StrEnum):
    """The part of the contract's `error_code` list that extraction can give."""

    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"
    ENCRYPTED = "encrypted"
    TOO_COMPLEX = "too_complex"
    TOO_LARGE = "too_large"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    NO_TEXT = "no_text"
    WORKER_LOST = "worker_lost"
    STORAGE_FAILED = "storage_failed"


class ParseFailure(Exception):
    """A document that yields nothing; `message` is one sentence for the person who uploaded it."""

    def __init__(self, code: FailureCode, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class ParseWarning:
    """Something lost from a document that was otherwise read; `pages` count from 1 and are the first hundred."""

    code: str
    message: str
    count: int = 1
    pages: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"pages": list(self.pages)}


@dataclass(frozen=True, slots=True)
class Passage:
    """A block before its place in the whole text is known; this is what a parser yields."""

    text: str
    kind: BlockKind = "paragraph"
    level: int | None = None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """One structural piece of a document.

    Attributes:
        level: 1 to 6 for headings, else None.
        page: Counts from 1 as a viewer shows it; None where the format has no pages.
        char_start: Offset in the document's whole extracted text, which is all blocks joined by `BLOCK_SEPARATOR`.
        char_end: Offset just past the last character; `char_end - char_start == len(text)`.
    """

    text: str
    kind: BlockKind
    level: int | None
    page: int | None
    char_start: int
    char_end: int


class ParseObserver(Protocol):
    """Where a parser reports while it reads."""

    def progress(self, units_done: int, units_total: int) -> None:
        """Pages for a PDF, sections of the input for other formats."""
        ...

    def warn(self, warning: ParseWarning) -> None: ...


class Parser(Protocol):
    """Reads one file.

    Raises:
        ParseFailure: for what is wrong with the document as a whole. What is wrong with a part is a warning.
    """

    def __call__(self, path: Path, observer: ParseObserver, *, max_pages: int) -> Iterator[Passage]: ...


def place(passages: Iterable[Passage]) -> Iterator[Block]:
    """Gives each passage its offsets in the whole text; blank passages vanish and over-long ones are split."""
    position = 0
    for passage in passages:
        for text in split_long(passage.text, MAX_BLOCK_CHARS):
            end = position + len(text)
            yield Block(text, passage.kind, passage.level, passage.page, position, end)
            position = end + len(BLOCK_SEPARATOR)
