"""From lines to headings, paragraphs and list items, by font size, weight and the space between lines."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from bwenge.knowledge.parsing.base import MAX_HEADING_LEVEL, BlockKind, Passage
from bwenge.knowledge.parsing.cleaning import PDFIUM_HYPHEN, clean
from bwenge.knowledge.parsing.pdf_furniture import without_furniture
from bwenge.knowledge.parsing.pdf_lines import Line

_LARGER: Final = 1.12
"""A line this many times the body's size is a heading."""
_SAME_SIZE: Final = 0.06
_MAX_HEADING_CHARS: Final = 200
_MAX_HEADING_SHARE: Final = 0.3
"""Where more of the text than this would be headings, sizes mean something else in this document."""
_PARAGRAPH_GAP: Final = 1.3
_HEADING_GAP: Final = 1.8

_LIST_MARKER: Final = re.compile(r"\s*(?:[•●▪■◦‣∙·▶➢✓]|[-–*]\s|\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4})[.)]\s+\S)")
_ENDS_SENTENCE: Final = re.compile(r"[.!?:;…][\"'”’»)\]]*$")
_LAST_PART: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*$")
_FIRST_PART: Final = re.compile(r"[^\W\d_]+")
_PUNCTUATION: Final = ".,;:!?()[]\"'“”‘’«»…"


def passages(pages: Sequence[list[Line]]) -> Iterator[Passage]:
    """The text of the pages in order; a passage never spans two pages, so that each has one number."""
    body = without_furniture(pages)
    layout = _Layout([line for page in body for line in page])
    joiner = LineJoiner(body)
    for page in body:
        for group, level in _groups(page, layout):
            text = " ".join(clean(joiner.join([line.text for line in group])).split())
            if text:
                yield Passage(text, _kind(group[0], level), level, group[0].page)


def _kind(line: Line, level: int | None) -> BlockKind:
    if level is not None:
        return "heading"
    return "list_item" if _LIST_MARKER.match(clean(line.text)) else "paragraph"


class _Layout:
    """What sizes and gaps mean in this document."""

    def __init__(self, lines: Sequence[Line]) -> None:
        characters = sum(len(line.text) for line in lines)
        sizes: Counter[float] = Counter()
        for line in lines:
            sizes[_rounded(line.size)] += len(line.text)
        self._body_size = sizes.most_common(1)[0][0] if sizes else 0.0
        self.leading = _typical_leading(lines)
        self._bold_counts = True
        self._size_counts = True
        allowed = _MAX_HEADING_SHARE * characters
        if self._heading_characters(lines) > allowed:
            self._bold_counts = False
        if not self._bold_counts and self._heading_characters(lines) > allowed:
            self._size_counts = False
        self._levels = self._levels_by_size(lines)

    def _heading_characters(self, lines: Sequence[Line]) -> int:
        return sum(len(line.text) for line in lines if self._is_larger(line) or self._is_bold_heading(line))

    def _levels_by_size(self, lines: Sequence[Line]) -> dict[float, int]:
        """Rank by size, the largest first; sizes within a few per cent share a rank."""
        levels: dict[float, int] = {}
        rank, last = 0, 0.0
        for size in sorted({_rounded(line.size) for line in lines if self._is_larger(line)}, reverse=True):
            if size < last * (1 - _SAME_SIZE) or rank == 0:
                rank, last = rank + 1, size
            levels[size] = min(rank, MAX_HEADING_LEVEL)
        return levels

    def level(self, line: Line, gap: float | None) -> int | None:
        """The heading level of a line, None for text. `gap` is the distance from the line before, if there is one."""
        if self._is_larger(line):
            return self._levels[_rounded(line.size)]
        stands_apart = gap is None or abs(gap) > self.leading * line.size * 1.15
        if stands_apart and self._is_bold_heading(line):
            return min(max(self._levels.values(), default=0) + 1, MAX_HEADING_LEVEL)
        return None

    def _is_larger(self, line: Line) -> bool:
        return self._size_counts and line.size >= self._body_size * _LARGER and _may_be_heading(line.text)

    def _is_bold_heading(self, line: Line) -> bool:
        return (
            self._bold_counts
            and line.bold
            and line.size >= self._body_size * (1 - _SAME_SIZE)
            and _may_be_heading(line.text)
        )


def _may_be_heading(text: str) -> bool:
    return len(text) <= _MAX_HEADING_CHARS and sum(map(str.isalpha, text)) > 1


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _typical_leading(lines: Sequence[Line]) -> float:
    """The commonest distance between neighbouring lines of one size, in line heights."""
    ratios: Counter[float] = Counter()
    for before, line in pairwise(lines):
        gap = before.last_bottom - line.bottom
        if before.page == line.page and line.size > 0 and 0.5 < gap / line.size < 3:
            ratios[round(gap / line.size, 1)] += 1
    return ratios.most_common(1)[0][0] if ratios else 1.2


def _groups(page: list[Line], layout: _Layout) -> Iterator[tuple[list[Line], int | None]]:
    """Lines that belong together, with the level where they are a heading."""
    group: list[Line] = []
    group_level: int | None = None
    right = max((line.right for line in page), default=0.0)
    for line in page:
        gap = group[-1].last_bottom - line.bottom if group else None
        level = layout.level(line, gap)
        if group and (
            level != group_level or _breaks(group, line, heading=level is not None, leading=layout.leading, right=right)
        ):
            yield group, group_level
            group = []
        group.append(line)
        group_level = level
    if group:
        yield group, group_level


def _breaks(group: list[Line], line: Line, *, heading: bool, leading: float, right: float) -> bool:
    """Whether `line` begins something new after `group`."""
    before = group[-1]
    gap = before.last_bottom - line.bottom
    if heading:
        return gap > _HEADING_GAP * line.size or gap < -line.size or len(group) > 2
    if abs(line.size - before.size) > before.size * 0.25 or _LIST_MARKER.match(line.text):
        return True
    if gap > _PARAGRAPH_GAP * leading * line.size:
        return True
    ended = _ENDS_SENTENCE.search(before.text[-8:]) is not None and not line.text[:1].islower()
    if gap < -0.5 * line.size:
        return ended or not line.text[:1].islower()
    is_short = before.right < line.left + 0.85 * (right - line.left)
    is_indented = line.left > before.left + 0.8 * line.size
    return ended and gap > 0.5 * line.size and (is_short or is_indented)


class LineJoiner:
    """Joins the lines of a paragraph and mends the words that were cut at their ends.

    A hyphen at a line's end may belong to the word or only to the line. The document itself decides: the form that
    it uses elsewhere is taken. Where it uses neither, the hyphen goes, save inside addresses.
    """

    def __init__(self, pages: Sequence[list[Line]]) -> None:
        self._pages = pages
        self._known: frozenset[str] | None = None

    def join(self, lines: Sequence[str]) -> str:
        joined = ""
        for line in lines:
            for part_number, part in enumerate(line.strip().split(PDFIUM_HYPHEN)):
                if part_number:
                    joined = self._mend(joined, part)
                elif joined[-1:] in {"-", "\u2010", "\u00ad"} and joined[-2:-1].isalpha() and part[:1].isalpha():
                    joined = self._mend(joined[:-1], part)
                else:
                    joined = f"{joined} {part}" if joined else part
        return joined

    def _mend(self, left: str, right: str) -> str:
        right = right.lstrip()
        return f"{left}-{right}" if self._keeps_hyphen(left, right) else left + right

    def _keeps_hyphen(self, left: str, right: str) -> bool:
        before, after = _LAST_PART.search(left[-80:]), _FIRST_PART.match(right[:80])
        if before is None or after is None or not right[:1].islower():
            return True
        token = left[left.rfind(" ") + 1 :]
        if "/" in token or "@" in token:
            return True
        first, second = before[0].casefold(), after[0].casefold()
        if first + second in self._vocabulary:
            return False
        return f"{first}-{second}" in self._vocabulary

    @property
    def _vocabulary(self) -> frozenset[str]:
        if self._known is None:
            text = "\n".join(line.text for page in self._pages for line in page)
            # Repetitions go first: they are five words of six.
            self._known = frozenset(word.strip(_PUNCTUATION) for word in set(text.casefold().split()))
        return self._known
