"""The units that chunks are made of: sentences, table rows and lines of code, with their sizes in tokens."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bwenge.knowledge.locators import PlaceStart
from bwenge.knowledge.parsing.base import Block
from bwenge.knowledge.sentences import split_sentences

CHARS_PER_TOKEN: Final = 16
"""So many characters weigh as much as a token at least: a tokenizer may call a word of any length one unknown."""

_LINE: Final = re.compile(r"[^\n]*\S[^\n]*")
_WHITESPACE: Final = re.compile(r"\s")
_ENDS_SENTENCE: Final = re.compile(r"[.!?:;…][\"'”’»)\]]*$")


class Tokenizer(Protocol):
    """The part of an embedding model's tokenizer that chunking needs; special tokens are never counted."""

    def count(self, text: str) -> int: ...

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Spans of the tokens in `text`, in characters and in order."""
        ...


class TokenisedBlock:
    """A block with the place of its tokens, asked of the tokenizer once.

    `section` is the path of headings under which the block stands.
    """

    def __init__(self, block: Block, tokenizer: Tokenizer, *, section: str) -> None:
        self.block = block
        self.section = section
        self._starts = [start for start, _ in tokenizer.offsets(block.text)]

    def unit(self, start: int, end: int) -> "Unit":
        return Unit(self, start, end, self._weight(start, end))

    def _weight(self, start: int, end: int) -> int:
        tokens = bisect_left(self._starts, end) - bisect_left(self._starts, start)
        return max(tokens, -(-(end - start) // CHARS_PER_TOKEN), 1)

    def cut(self, start: int, end: int, *, weight: int) -> Iterator["Unit"]:
        """Units of at most `weight`, between words where there are some, else between tokens."""
        text = self.block.text
        while start < end:
            stop = min(end, start + weight * CHARS_PER_TOKEN)
            over = bisect_left(self._starts, start) + weight
            if over < len(self._starts):
                stop = min(stop, max(self._starts[over], start + 1))
            if stop < end and not text[stop].isspace():
                stop = _last_space(text, start, stop) or stop
            yield self.unit(start, stop)
            start = stop
            while start < end and text[start].isspace():
                start += 1

    def tail(self, start: int, end: int, *, weight: int) -> "Unit | None":
        """The longest end of the span that begins a word and weighs at most `weight`; None when there is none."""
        first = max(bisect_left(self._starts, end) - weight, 0)
        begin = max(start, self._starts[first] if self._starts else start, end - weight * CHARS_PER_TOKEN)
        text = self.block.text
        if begin > start and not text[begin - 1].isspace():
            space = _WHITESPACE.search(text, begin, end)
            begin = space.end() if space else end
        while begin < end and text[begin].isspace():
            begin += 1
        return self.unit(begin, end) if begin < end else None


def _last_space(text: str, start: int, stop: int) -> int | None:
    """Where the last run of whitespace between the two places begins, if a word stands before it."""
    at = stop
    while at > start and not text[at - 1].isspace():
        at -= 1
    head = text[start:at].rstrip()
    return start + len(head) if head else None


@dataclass(frozen=True, slots=True)
class Unit:
    """A span of a block that is not divided; `weight` is its size in tokens, or more for very long words."""

    source: TokenisedBlock
    start: int
    end: int
    weight: int

    @property
    def block(self) -> Block:
        return self.source.block

    @property
    def text(self) -> str:
        return self.source.block.text[self.start : self.end]

    @property
    def is_heading(self) -> bool:
        return self.source.block.kind == "heading"

    @property
    def char_start(self) -> int:
        return self.source.block.char_start + self.start

    @property
    def char_end(self) -> int:
        return self.source.block.char_start + self.end

    def tail(self, weight: int) -> "Unit | None":
        return self.source.tail(self.start, self.end, weight=weight)

    def halves(self) -> "list[Unit]":
        """Two or more smaller units, or the unit itself when it is one character."""
        if self.end - self.start < 2:
            return [self]
        middle = (self.start + self.end) // 2
        cut = _last_space(self.block.text, self.start, middle) or middle
        rest = cut
        while rest < self.end and self.block.text[rest].isspace():
            rest += 1
        return [self.source.unit(start, end) for start, end in ((self.start, cut), (rest, self.end)) if start < end]


def groups_of(source: TokenisedBlock, *, size: int, piece: int) -> Iterator[list[Unit]]:
    """Units in order, grouped by what is to stay together: all of a table or listing, else each unit alone.

    A unit heavier than `size` is cut into pieces of at most `piece`.
    """
    block = source.block
    units: list[Unit] = []
    for start, end in _spans(block):
        unit = source.unit(start, end)
        units.extend([unit] if unit.weight <= size else source.cut(start, end, weight=piece))
    if block.kind in {"table", "code"}:
        yield units
    else:
        yield from ([unit] for unit in units)


def _spans(block: Block) -> list[tuple[int, int]]:
    if block.kind in {"table", "code"}:
        return [match.span() for match in _LINE.finditer(block.text)]
    if block.kind == "heading":
        return [(0, len(block.text))]
    return split_sentences(block.text)


def render(units: Sequence[Unit]) -> str:
    """The text of consecutive units, as it stands in the document."""
    return "".join(f"{separator}{unit.text}" for separator, unit in _separated(units))


def place_starts(units: Sequence[Unit]) -> tuple[PlaceStart, ...]:
    """Where in the rendered text each page and section begins, from its start on; empty where there is but one."""
    starts: list[PlaceStart] = []
    offset = 0
    for separator, unit in _separated(units):
        offset += len(separator)
        start = PlaceStart(offset, unit.block.page, unit.source.section or None)
        if not starts or starts[-1][1:] != start[1:]:
            starts.append(start)
        offset += len(unit.text)
    return tuple(starts) if len(starts) > 1 else ()


def _separated(units: Sequence[Unit]) -> Iterator[tuple[str, Unit]]:
    before: Unit | None = None
    for unit in units:
        yield ("" if before is None else _between(before, unit)), unit
        before = unit


def _between(before: Unit, unit: Unit) -> str:
    if before.source is unit.source:
        return unit.block.text[before.end : unit.start]
    kinds = before.block.kind, unit.block.kind
    if kinds == ("list_item", "list_item"):
        return "\n"
    if kinds == ("paragraph", "paragraph") and before.block.page != unit.block.page:
        first, last = unit.block.text[:1], before.block.text[-8:]
        if first.islower() and not _ENDS_SENTENCE.search(last):
            return " "  # A paragraph that goes on over the page.
    return "\n\n"
