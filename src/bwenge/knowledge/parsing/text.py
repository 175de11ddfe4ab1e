"""Plain text to passages: paragraphs, and the headings that can be told by their looks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bwenge.knowledge.parsing.base import (
    MAX_HEADING_LEVEL,
    FailureCode,
    ParseFailure,
    ParseObserver,
    ParseWarning,
    Passage,
)
from bwenge.knowledge.parsing.cleaning import clean, collapse
from bwenge.knowledge.parsing.encodings import decode

_MAX_HEADING_CHARS: Final = 80
_PARAGRAPH_BREAK: Final = re.compile(r"\n[ \t]*+\n\s*+")
_UNDERLINE: Final = re.compile(r"(?P<mark>=|-|~)(?P=mark){2,}")
# One number alone may as well begin a list's item.
_NUMBERED: Final = re.compile(r"(?P<number>\d{1,2}(?:\.\d{1,2}){1,5})\.?\s+[^\W\d_]")
_DIVISION: Final = re.compile(
    # English, French, Kinyarwanda and Swahili names for the parts of a book, with their number.
    r"(?:chapter|part|unit|lesson|section|chapitre|partie|unité|leçon|igice|umutwe|isomo|icyigisho|sura|sehemu|somo)"
    r"\s+(?:ya\s+|wa\s+)?(?:\d{1,3}|[ivxlc]{1,7})\b",
    re.IGNORECASE,
)
_LIST_ITEM: Final = re.compile(r"[ \t]*(?:[-*•▪◦‣–]|\d{1,3}[.)])[ \t]+")
_WRAPPED_WIDTH: Final = 40
_PROGRESS_EVERY: Final = 500


def read_text(path: Path, observer: ParseObserver) -> str:
    """The cleaned text of a file; form feeds become paragraph breaks.

    Raises:
        ParseFailure: `unreadable` when the content is no text in any encoding.
    """
    decoded = decode(path.read_bytes())
    if decoded is None:
        raise ParseFailure(FailureCode.UNREADABLE, "The file is not a text that can be read")
    text, is_whole = decoded
    if not is_whole:
        observer.warn(ParseWarning("undecodable_characters", "Some characters of the text cannot be read"))
    return clean(text.replace("\f", "\n\n"))


def parse_text(path: Path, observer: ParseObserver, *, max_pages: int) -> Iterator[Passage]:
    """A unit of progress is one paragraph of the file."""
    del max_pages
    paragraphs = _PARAGRAPH_BREAK.split(read_text(path, observer))
    for number, paragraph in enumerate(paragraphs, start=1):
        lines = [line for line in collapse(paragraph).split("\n") if line]
        if lines:
            yield from _passages(lines)
        if number % _PROGRESS_EVERY == 0 or number == len(paragraphs):
            observer.progress(number, len(paragraphs))


def _passages(lines: list[str]) -> Iterator[Passage]:
    if len(lines) > 1 and (underline := _UNDERLINE.fullmatch(lines[1])) and len(lines[0]) <= _MAX_HEADING_CHARS:
        yield Passage(lines[0], "heading", 1 if underline["mark"] == "=" else 2)
        lines = lines[2:]
    elif len(lines) == 1 and (level := _heading_level(lines[0])) is not None:
        yield Passage(lines[0], "heading", level)
        return
    group: list[str] = []
    for line in lines:
        if _LIST_ITEM.match(line) and group:
            yield _passage(group)
            group = []
        group.append(line)
    if group:
        yield _passage(group)


def _passage(lines: list[str]) -> Passage:
    return Passage(_unwrapped(lines), "list_item" if _LIST_ITEM.match(lines[0]) else "paragraph")


def _unwrapped(lines: list[str]) -> str:
    """Lines broken by width are joined; lines of verse, addresses and the like are kept."""
    widest = max(map(len, lines))
    is_wrapped = widest >= _WRAPPED_WIDTH and all(len(line) > 0.6 * widest for line in lines[:-1])
    return (" " if is_wrapped else "\n").join(lines)


def _heading_level(line: str) -> int | None:
    """For a line that stands alone."""
    if len(line) > _MAX_HEADING_CHARS or line.endswith((".", ",", ";", ":", "!", "?", "…")):
        return None
    if _DIVISION.match(line):
        return 1
    if numbered := _NUMBERED.match(line):
        return min(numbered["number"].count(".") + 1, MAX_HEADING_LEVEL)
    return 2 if line.isupper() and sum(map(str.isalpha, line)) > 2 else None
