"""Running heads, running feet and page numbers: what a page carries that its text does not."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from bwenge.knowledge.parsing.pdf_lines import Line

_MARGIN: Final = 0.1
_MIN_RUN: Final = 3
_MAX_PAGE_GAP: Final = 2  # recto and verso often differ
_MAX_FURNITURE_CHARS: Final = 160
_MAX_MARGINAL_LINES: Final = 20
_CLEARANCE: Final = 1.6
"""How far, in line heights, a running head stands from the text: closer, it is the text's own first line."""

_DIGITS: Final = re.compile(r"\d+")
_PAGE_NUMBER: Final = re.compile(
    r"\W*(?:(?:page|pg\.?|p\.|seite|ukurasa|urupapuro|ipaji)\s*)?(?P<number>\d{1,5}|[ivxlc]{1,7})"
    r"(?:\s*(?:of|/|de|sur|kati ya)\s*\d{1,5})?\W*",
    re.IGNORECASE,
)


def without_furniture(pages: Sequence[list[Line]]) -> list[list[Line]]:
    """The pages without repeated heads and feet and bare page numbers; a page never loses all of its lines."""
    candidates = [line for page in pages for line in _marginal(page)]
    unwanted = {id(line) for line in _page_numbers(candidates)} | {id(line) for line in _repeated(candidates)}
    kept = []
    for page in pages:
        body = [line for line in page if id(line) not in unwanted]
        # A lone number is no text, though it is all that the page holds.
        kept.append(body or [line for line in page if not _PAGE_NUMBER.fullmatch(line.text)])
    return kept


def _marginal(page: list[Line]) -> Iterable[Line]:
    """Lines in the outer tenth of the page that stand clear of the text."""
    outer = [line for line in page if not _MARGIN <= line.depth <= 1 - _MARGIN]
    if len(outer) > _MAX_MARGINAL_LINES:
        return
    has_text = len(outer) < len(page)
    for line in outer:
        is_short = len(line.text) <= _MAX_FURNITURE_CHARS
        if is_short and (not has_text or _is_clear(line, page, above=line.depth > _MARGIN)):
            yield line


def _is_clear(line: Line, page: list[Line], *, above: bool) -> bool:
    """Whether no line on the text's side stands within the clearance."""
    reach = _CLEARANCE * max(line.size, 1.0)
    for other in page:
        distance = line.bottom - other.bottom if above else other.last_bottom - line.bottom
        if 0.5 * line.size < distance < reach:
            return False
    return True


def _page_numbers(candidates: Iterable[Line]) -> list[Line]:
    """Numbers that count with the pages (or roman ones), on two pages at least."""
    by_offset: dict[int | str, list[Line]] = defaultdict(list)
    for line in candidates:
        if match := _PAGE_NUMBER.fullmatch(line.text):
            number = match["number"]
            by_offset[int(number) - line.page if number.isdecimal() else "roman"].append(line)
    return [line for lines in by_offset.values() if len({line.page for line in lines}) > 1 for line in lines]


def _repeated(candidates: Iterable[Line]) -> list[Line]:
    """Lines that return, but for their numbers, at one height on at least three neighbouring pages."""
    by_key: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in candidates:
        by_key[_DIGITS.sub("#", line.text.casefold()), round(line.depth * 100)].append(line)
    # Numbers alone are judged as page numbers: years and results return at one height too.
    worded = (lines for (text, _), lines in by_key.items() if any(map(str.isalpha, text)))
    return [line for lines in worded for run in _runs(lines) if len(run) >= _MIN_RUN for line in run]


def _runs(lines: list[Line]) -> Iterable[list[Line]]:
    run: list[Line] = []
    for line in lines:
        if run and line.page - run[-1].page > _MAX_PAGE_GAP:
            yield run
            run = []
        run.append(line)
    yield run
