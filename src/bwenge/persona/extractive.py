"""An answer in the material's own words: the sentences that say most about the question, each with its marker."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bwenge.persona.evidence import Candidate, Evidence
from bwenge.persona.statements import Kind, Sentence

LONGEST_ANSWER: Final = 600
"""Characters of sentences; markers come on top, and the best sentence is said however long it is."""

_MOST_CHOSEN = 3
_MOST_LIST_ITEMS = 6
_RELATIVE_SCORE = 0.8
_NEAR_DUPLICATE = 0.9
_NOVELTY = 0.25
"""Share of the similarity to what is already said that counts against a sentence (maximal marginal relevance)."""

# A sentence that begins so speaks of something in the sentence before it.
_ANAPHOR = re.compile(
    r"(?:it|its|this|that|these|those|they|their|he|his|she|her|such|here|there|both|another|however|therefore|thus|"
    r"instead|similarly|moreover|furthermore|also|then|as a result|in addition|for example|for instance|"
    r"il|elle|ils|elles|cela|ceci|celui-ci|celle-ci|cette|ces|son|sa|ses|leur|leurs|ainsi|donc|cependant|toutefois|"
    r"par exemple|de plus|en effet|"
    r"ibyo|ibi|iyi|iyo|uyu|uwo|aba|abo|ibyo|icyo|ubwo|bityo|urugero|kubera iyo mpamvu|"
    r"hii|hiyo|hili|hilo|hiki|hicho|haya|hayo|huyu|huyo|hao|hawa|yeye|wao|kwa hiyo|hivyo|kwa mfano|aidha)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the answer and the number of its source, counted from 1."""

    text: str
    marker: int


def compose(evidence: Evidence) -> list[Statement]:
    """One to a few sentences, in the order of their sources; empty when no sentence can be said as an answer."""
    texts = {(sentence.hit, sentence.position): sentence for sentence in evidence.sentences}
    said: dict[tuple[int, int], Sentence] = {}
    room = LONGEST_ANSWER
    for candidate in _chosen(evidence.candidates):
        passage = [sentence for sentence in _with_context(candidate.sentence, texts) if _place(sentence) not in said]
        length = sum(len(sentence.text) for sentence in passage)
        if said and length > room:
            continue
        said.update((_place(sentence), sentence) for sentence in passage)
        room -= length
    ordered = sorted(said.values(), key=lambda sentence: _source_order(sentence, evidence))
    return [Statement(sentence.text, sentence.hit + 1) for sentence in ordered]


def deltas(statements: Sequence[Statement]) -> Iterator[str]:
    """The answer's text, sentence by sentence."""
    for index, statement in enumerate(statements):
        yield f"{' ' if index else ''}{statement.text} [{statement.marker}]"


def _chosen(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """The best candidate, then sentences nearly as good that add to it: greedy maximal marginal relevance.

    A fragment, such as an item of a list, is said only as the best there is: beside a sentence it is a loose end.
    """
    left = sorted(candidates, key=lambda candidate: candidate.score, reverse=True)
    if not left:
        return
    least = _RELATIVE_SCORE * left[0].score
    chosen: list[Candidate] = []
    while left and len(chosen) < _MOST_CHOSEN:
        best = max(left, key=lambda candidate: candidate.score - _NOVELTY * _redundancy(candidate, chosen))
        left.remove(best)
        if chosen and not _adds(best, chosen, least=least):
            continue
        chosen.append(best)
        yield best


def _adds(candidate: Candidate, chosen: Sequence[Candidate], *, least: float) -> bool:
    is_whole = candidate.sentence.kind is Kind.STATEMENT
    return is_whole and candidate.score >= least and _redundancy(candidate, chosen) <= _NEAR_DUPLICATE


def _redundancy(candidate: Candidate, chosen: Sequence[Candidate]) -> float:
    return max((float(candidate.vector @ other.vector) for other in chosen), default=0.0)


def _with_context(sentence: Sentence, texts: Mapping[tuple[int, int], Sentence]) -> list[Sentence]:
    """The sentence with what it needs to be understood: the one it points back to, the list that it announces."""
    passage = [sentence]
    before = texts.get((sentence.hit, sentence.position - 1))
    if before is not None and before.kind is Kind.STATEMENT and _ANAPHOR.match(sentence.text):
        passage.insert(0, before)
    if sentence.text.endswith(":"):
        following = (texts.get((sentence.hit, sentence.position + step)) for step in range(1, _MOST_LIST_ITEMS + 1))
        passage.extend(item for item in following if item is not None and item.kind is not Kind.UNFIT)
    return passage


def _place(sentence: Sentence) -> tuple[int, int]:
    return sentence.hit, sentence.position


def _source_order(sentence: Sentence, evidence: Evidence) -> tuple[int, int, int]:
    """Sources by the rank of their best chunk, and within a source by the place in it."""
    hit = evidence.hits[sentence.hit]
    first = next(index for index, other in enumerate(evidence.hits) if other.source_id == hit.source_id)
    start = hit.locator.get("char_start")
    return first, int(start) if start is not None else sentence.hit, sentence.position
