"""Blocks to chunks: pieces of bounded size along a document's structure, each with its place.

The work is pure and streams: a document is tokenised once, block by block, and each finished chunk is counted once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bwenge.knowledge.chunk_units import TokenisedBlock, Tokenizer, Unit, groups_of, place_starts, render
from bwenge.knowledge.locators import Locator, PlaceStart
from bwenge.knowledge.parsing.base import Block

__all__ = ["Chunk", "Locator", "Tokenizer", "chunk_blocks"]

DEFAULT_SIZE = 500
DEFAULT_OVERLAP = 50
MIN_SIZE = 16

_PAGE_BREAK_FROM = 0.6
"""From this share of its size on, a chunk ends where its page does, so that it is cited on the right one."""
_TINY = 0.125
"""A section smaller than this share of a chunk may be joined with the next one."""
_HEADING_SEPARATOR = " > "
MAX_HEADING_CHARACTERS = 200
MAX_PATH_CHARACTERS = 500
"""Each chunk carries a copy of its path; what is cut from a heading there still stands in the text of a chunk."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document.

    Attributes:
        text: Begins with the overlap, which is the end of the chunk before it in the same section.
        token_count: Of the whole text, overlap included.
        locator: Of the chunk's own text, without the overlap: offsets and pages never go back from chunk to chunk,
            and between own texts there is nothing but whitespace. Page and heading are those of its first text below
            the headings: a heading at the foot of a page is cited on the next, where what it announces stands.
        place_starts: Where in `text` each page and section begins, so that a sentence is cited on its own page and
            under its own heading; empty where all of `text` stands at the place that `locator` says.
    """

    index: int
    text: str
    token_count: int
    locator: Locator
    place_starts: tuple[PlaceStart, ...] = ()


def chunk_blocks(
    blocks: Iterable[Block], tokenizer: Tokenizer, *, size: int = DEFAULT_SIZE, overlap: int = DEFAULT_OVERLAP
) -> Iterator[Chunk]:
    """Chunks of at most `size` tokens, of which at most `overlap` repeat the chunk before in the same section.

    A chunk ends at the end of its section, else at the end of a page when it is nearly full, else between sentences,
    table rows or lines of code; a sentence is cut only when it alone exceeds the size. A table or a listing that fits
    a chunk is not divided. A heading stays with what follows it; a tiny section may be joined with the next one, but
    not over a top heading.

    Raises:
        ValueError: `size` is below 16, or the overlap is not below half of it.
    """
    if size < MIN_SIZE or not 0 <= overlap < size / 2:
        raise ValueError(f"size must be at least {MIN_SIZE} and overlap below half of it, not {size} and {overlap}")
    packer = _Packer(_Writer(tokenizer, size=size, overlap=overlap), size=size, overlap=overlap)
    path = _HeadingPath()
    for block in blocks:
        if block.kind == "heading":
            path.enter(_level(block), block.text)
            yield from packer.open_section(block)
        source = TokenisedBlock(block, tokenizer, section=str(path))
        for group in groups_of(source, size=size, piece=size - overlap):
            yield from packer.add(group)
    yield from packer.close_section()


def _level(heading: Block) -> int:
    return heading.level or 1


class _HeadingPath:
    def __init__(self) -> None:
        self._levels: list[tuple[int, str]] = []

    def enter(self, level: int, text: str) -> None:
        while self._levels and self._levels[-1][0] >= level:
            self._levels.pop()
        self._levels.append((level, _shortened(" ".join(text.split()), MAX_HEADING_CHARACTERS)))

    def __str__(self) -> str:
        return _shortened(_HEADING_SEPARATOR.join(text for _, text in self._levels), MAX_PATH_CHARACTERS)


def _shortened(text: str, most: int) -> str:
    """At most so many characters, cut between words where there are some, with an ellipsis for what is left out."""
    if len(text) <= most:
        return text
    head, space, _ = text[:most].rpartition(" ")
    return f"{(head if space else text[: most - 1]).rstrip(_HEADING_SEPARATOR)}…"


class _Packer:
    """Decides which units make a chunk."""

    def __init__(self, writer: "_Writer", *, size: int, overlap: int) -> None:
        self._writer = writer
        self._size = size
        self._overlap = overlap
        self._units: list[Unit] = []
        self._weight = 0
        self._level = 0
        self._top_level: int | None = None

    def open_section(self, heading: Block) -> Iterator[Chunk]:
        """Ends the chunk in work, unless the section that begins now joins it."""
        level = _level(heading)
        if not self._may_join(heading):
            yield from self.close_section()
        self._level = level
        self._top_level = level if self._top_level is None else min(level, self._top_level)

    def _may_join(self, heading: Block) -> bool:
        if self._writer.has_overlap or not self._units:
            return False
        level = _level(heading)
        is_tiny = self._weight < _TINY * self._size
        if all(unit.is_heading for unit in self._units):
            # A title alone on its page stays alone, or what follows would be cited on the title's page.
            return level > self._level or (is_tiny and heading.page == self._units[0].block.page)
        is_top = self._top_level is None or level <= self._top_level
        return is_tiny and level >= self._level and not is_top

    def close_section(self) -> Iterator[Chunk]:
        yield from self._flush()
        self._writer.forget()

    def add(self, group: list[Unit]) -> Iterator[Chunk]:
        """Takes units that stay together where one chunk can hold them."""
        if not self._fits(group):
            yield from self._break()
        if self._fits(group):
            self._append(group)
            return
        for unit in group:
            if not self._fits([unit]):
                yield from self._flush()
            self._append([unit])

    def _fits(self, group: list[Unit]) -> bool:
        if not self._units:
            return sum(unit.weight for unit in group) <= self._size
        room = self._size - (self._overlap if self._writer.has_overlap else 0)
        is_new_page = group[0].block.page != self._units[-1].block.page if group else False
        if is_new_page and self._weight >= _PAGE_BREAK_FROM * self._size:
            return False
        return self._weight + sum(unit.weight for unit in group) <= room

    def _append(self, units: list[Unit]) -> None:
        self._units.extend(units)
        self._weight += sum(unit.weight for unit in units)

    def _break(self) -> Iterator[Chunk]:
        """Ends the chunk in work, save that headings at its end go with what follows them."""
        at = len(self._units)
        while at and self._units[at - 1].is_heading:
            at -= 1
        headings = self._units[at:]
        if at:
            self._units = self._units[:at]
            yield from self._flush()
            if headings:
                self._writer.forget()
            self._append(headings)

    def _flush(self) -> Iterator[Chunk]:
        units, self._units, self._weight = self._units, [], 0
        if units:
            yield from self._writer.write(units)


class _Writer:
    """Writes chunks with their overlap, and holds them to the size by the tokenizer's own count."""

    def __init__(self, tokenizer: Tokenizer, *, size: int, overlap: int) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._overlap = overlap
        self._before: list[Unit] = []
        self._index = 0

    @property
    def has_overlap(self) -> bool:
        """Whether the next chunk will begin with the end of the one before."""
        return bool(self._before) and self._overlap > 0

    def forget(self) -> None:
        """The next chunk begins a section."""
        self._before = []

    def write(self, units: list[Unit]) -> Iterator[Chunk]:
        """One chunk, or more where the units together count for more tokens than each by itself."""
        room = self._size - sum(unit.weight for unit in units)
        for overlap in (self._tail(min(self._overlap, room)), []):
            text = render([*overlap, *units])
            count = self._tokenizer.count(text)
            if count <= self._size:
                yield self._chunk(units, text, count, place_starts([*overlap, *units]))
                return
        parts = (
            [units[: len(units) // 2], units[len(units) // 2 :]]
            if len(units) > 1
            else [[half] for half in units[0].halves()]
        )
        if len(parts) == 1:
            raise ValueError("The tokenizer makes more tokens of one character than a chunk may hold")
        for part in parts:
            yield from self.write(part)

    def _tail(self, weight: int) -> list[Unit]:
        """The end of the chunk before: whole units, and words of one more while less than half is taken."""
        taken: list[Unit] = []
        left = weight
        for unit in reversed(self._before):
            if unit.is_heading:
                break
            if unit.weight <= left:
                taken.insert(0, unit)
                left -= unit.weight
                continue
            if 2 * left > weight and (piece := unit.tail(left)) is not None:
                taken.insert(0, piece)
            break
        return taken

    def _chunk(self, units: list[Unit], text: str, count: int, places: tuple[PlaceStart, ...]) -> Chunk:
        first, last = units[0], units[-1]
        first_text = next((unit for unit in units if not unit.is_heading), first)
        section = (last if first_text.is_heading else first_text).source.section
        locator = Locator(
            char_start=first.char_start,
            char_end=last.char_end,
            page=first_text.block.page,
            page_end=last.block.page,
            heading=section or None,
        )
        self._before = units
        self._index += 1
        return Chunk(self._index - 1, text, count, locator, places)
