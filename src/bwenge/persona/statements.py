"""The sentences of retrieved chunks, and which of them can be said as an answer."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bwenge.knowledge.contract import SearchHit, split_sentences
from bwenge.persona.markers import spell_markers

LONGEST_SENTENCE: Final = 400
"""Characters; a longer run, such as a transcript without full stops, is cut between words."""

_FRAGMENT_WORDS = 12
_FEWEST_WORDS = 4
_FEWEST_LETTERS = 12

_TERMINAL = re.compile(r"[.!…。\uff01:;።]\s*[\"'”\u2019»)\]]*$")
_QUESTION = re.compile(r"[?\uff1f؟]\s*[\"'”\u2019»)\]]*$")
_BULLET = re.compile(r"^(?:[-*•▪◦‣\u2013—>|·]+\s+)+")
_MARKDOWN_HEADING = re.compile(r"^#{1,6}\s")
_LEADERS = re.compile(r"(?:\.\s?){4,}|…\s?…|_{3,}|(?:\s[.·]){3,}")
_CONTENTS_LINE = re.compile(
    r"^(?:chapter|chapitre|section|unit|unité|part|partie|isomo|umutwe|sura|somo)\b.*\d$", re.IGNORECASE
)
_NUMBERING = re.compile(r"^\(?(?:\d{1,3}(?:\.\d{1,3})*|[a-zA-Z]|[ivxIVX]{1,4})[.)]\s+")
_EXERCISE = re.compile(
    r"^(?:(?:analy[sz]e|assess|calculate|choose|circle|compare|complete|consider|contrast|define|describe|determine|"
    r"discuss|draw|estimate|evaluate|explain|find|give|identify|list|match|name|outline|prove|reflect|show|sketch|"
    r"solve|state|suggest|summari[sz]e|think|use|using|write)\s+"
    r"(?:a|an|any|at|about|and|back|between|briefly|down|each|five|four|how|in|one|on|some|that|the|this|three|two|"
    r"what|when|where|whether|which|why|with|your|\d+)\b"
    r"|(?:calculez|choisissez|citez|comparez|complétez|décrivez|définissez|discutez|donnez|expliquez|identifiez|"
    r"indiquez|justifiez|montrez|nommez|énumérez)\b"
    r"|(?:andika|bainisha|eleza|erekana|fafanua|garagaza|jadili|linganisha|orodhesha|sobanura|subiza|taja|tofautisha|"
    r"vuga)\b)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_SPACES = re.compile(r"\s+")


class Kind(Enum):
    STATEMENT = "statement"
    FRAGMENT = (
        "fragment"  # without its end or beginning: a bullet of a slide, an item of a list, the rest of a sentence
    )
    UNFIT = "unfit"  # a question, an exercise, a heading, a line of a table of contents


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the hit at index `hit`, counted from 0 there as `position`; without markers of its own.

    `start` is its offset in the hit's text.
    """

    hit: int
    position: int
    text: str
    kind: Kind
    start: int = 0


def sentences_of(hits: Sequence[SearchHit]) -> list[Sentence]:
    """In the order of the hits, and within each in the order of its text; a sentence met twice is kept once."""
    seen: set[str] = set()
    sentences: list[Sentence] = []
    for index, hit in enumerate(hits):
        headings = frozenset(_headings_of(hit))
        for position, (start, text) in enumerate(_texts(hit.text)):
            if text not in seen:
                seen.add(text)
                kind = Kind.UNFIT if text in headings else classify(text)
                sentences.append(Sentence(index, position, text, kind, start))
    return sentences


def _headings_of(hit: SearchHit) -> Iterator[str]:
    """Of all the sections that share the hit."""
    for path in (hit.locator.get("heading"), *(start.heading for start in hit.place_starts)):
        yield from (path or "").split(" > ")


def classify(text: str) -> Kind:
    bare = _NUMBERING.sub("", text)
    if _is_unfit(text, bare):
        return Kind.UNFIT
    if _TERMINAL.search(bare):
        return Kind.FRAGMENT if _begins_small(bare) else Kind.STATEMENT
    words = bare.split()
    if len(words) > _FRAGMENT_WORDS:
        return Kind.STATEMENT
    return Kind.UNFIT if _is_title(words) else Kind.FRAGMENT


def _is_unfit(text: str, bare: str) -> bool:
    if len(bare.split()) < _FEWEST_WORDS and not _writes_without_spaces(bare):
        return True
    if len(_LETTER.findall(bare)) < _FEWEST_LETTERS:
        return True
    if _QUESTION.search(bare) or _EXERCISE.match(bare):
        return True
    return any(pattern.search(text) for pattern in (_MARKDOWN_HEADING, _LEADERS, _CONTENTS_LINE))


def _writes_without_spaces(text: str) -> bool:
    return any("\u3040" <= character <= "\u9fff" for character in text)


def _begins_small(text: str) -> bool:
    """Whether the beginning is missing, as where a chunk or a page starts inside a sentence."""
    return next((character.islower() for character in text if character.isalpha()), False)


def _is_title(words: Sequence[str]) -> bool:
    """Whether most of the longer words begin with a capital, as headings in English do."""
    longer = [word for word in words if len(word) > 3 and word[0].isalpha()]
    return bool(longer) and sum(word[0].isupper() for word in longer) > 0.6 * len(longer)


def _texts(chunk_text: str) -> Iterator[tuple[int, str]]:
    for start, end in split_sentences(chunk_text):
        text = spell_markers(_SPACES.sub(" ", chunk_text[start:end]))
        text = _BULLET.sub("", text.strip()).strip()
        yield from ((start, part) for part in _cut(text))


def _cut(text: str) -> Iterator[str]:
    while len(text) > LONGEST_SENTENCE:
        cut = text.rfind(" ", LONGEST_SENTENCE // 2, LONGEST_SENTENCE)
        cut = cut if cut > 0 else LONGEST_SENTENCE
        yield text[:cut].strip()
        text = text[cut:].strip()
    if text:
        yield text
