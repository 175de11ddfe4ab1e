"""Sentence boundaries by rule, for English, French, Kinyarwanda and Swahili, in linear time."""

import re
from typing import Final

# Words that end in a full stop without ending a sentence, in lower case and without that last stop.
_ABBREVIATIONS: Final = frozenset(
    # English
    "mr mrs ms dr prof rev hon st jr sr gen col capt lt sgt vs eg ie e.g i.e cf viz approx dept est vol vols no nos "
    "fig figs eq eqs ch chap sec ed eds trans pp al inc ltd co corp univ jan feb mar apr jun jul aug sep sept oct nov "
    "dec "
    # French
    "m mm mme mlle me mgr av apr env ex p art chap par éd éds vol tél bd adj boul janv févr juil déc j.-c n.b c.-à-d "
    # Swahili and Kinyarwanda
    "bw bi dkt mh mhe k.m k.v n.k urug nk uk h.k.m".split()
) - {"no", "me", "mar", "par", "al", "ex", "est", "sec", "bi", "co", "ed"} | {"et al"}
# Words that also end sentences ("no", "par", "mar") count as abbreviations only before a number.
_BEFORE_NUMBER: Final = frozenset({"no", "mar", "par", "sec", "ex", "art", "p", "pp", "fig", "vol"})

# A mark with its closing quotes and brackets, or a blank line, or a line that begins a list item.
_BOUNDARY: Final = re.compile(
    r"(?P<mark>(?<![.!?…])[.!?…]++)[\"'”’»)\]]*+(?=\s)"
    r"|(?P<hard>[。！？।؟።፧][\"'”’»)\]」』]*+|\n[ \t]*+\n|\n(?=[ \t]*+(?:[-*•▪◦‣–]|\d{1,3}[.)]|[a-z]\))[ \t]))"
)
_LAST_WORD: Final = re.compile(r"[^\s(\[\"'“‘«/]+$")
_NEXT_VISIBLE: Final = re.compile(r"\s*[\"'“‘«(\[¿¡–—-]*\s*(\S?)")
_LIST_NUMBER: Final = re.compile(r"(?:^|\n)[ \t]*(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})$")
_INITIAL: Final = re.compile(r"(?:[^\W\d_]\.-?)*[^\W\d_]")
_LOOK_BACK: Final = 24
_LOOK_AHEAD: Final = 12


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of `text`: ordered, disjoint, without outer whitespace, covering all that is visible.

    A full stop ends no sentence after an abbreviation, an initial or a list's number, nor before a small letter; a
    blank line and the beginning of a list item always do.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        if match["hard"] is None and not _ends_sentence(text, match):
            continue
        _append_span(spans, text, start, match.end())
        start = match.end()
    _append_span(spans, text, start, len(text))
    return spans


def _append_span(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    if stripped := piece.strip():
        begin = start + len(piece) - len(piece.lstrip())
        spans.append((begin, begin + len(stripped)))


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    follows = _NEXT_VISIBLE.match(text, match.end(), match.end() + _LOOK_AHEAD)
    following = follows[1] if follows else ""
    if following.islower():
        return False
    if match["mark"] != ".":
        return True
    before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
    if match.start() <= _LOOK_BACK:
        before = "\n" + before
    return not _continues(before, following)


def _continues(before: str, following: str) -> bool:
    """Whether the full stop after `before` belongs to its last word."""
    if _LIST_NUMBER.search(before):
        return True
    last = _LAST_WORD.search(before)
    if last is None:
        return False
    word = last[0]
    if _INITIAL.fullmatch(word) and (word[-1].isupper() or "." in word):
        return True
    lowered = word.lower()
    return lowered in _ABBREVIATIONS or (following.isdigit() and lowered in _BEFORE_NUMBER)
