"""Whether the material holds the answer, decided before anything is said.

The decision is a logistic model over four signals, with weights for each of three situations, because the default
embedding model reads English well, finds all sentences of another language alike, and hardly sees through a
translation. `bench/abstention.py` measures the weights and the rates of right and wrong abstentions.
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from enum import Enum
from typing import Final

from bwenge.persona.evidence import Evidence

ABSTAIN_BELOW: Final = 0.5
"""The default threshold on the support score. The scores are shifted so that every situation has its own at 0.5."""


class Situation(Enum):
    ENGLISH = "english"  # question and material
    SAME_LANGUAGE = "same_language"  # question and material, not English
    CROSS_LANGUAGE = "cross_language"  # no retrieved chunk is in the language of the question


@dataclass(frozen=True, slots=True)
class Signals:
    """What speaks for an answer in the retrieved chunks.

    Attributes:
        cosine: Of the question and its nearest sentence.
        sentence_score: Best sentence by cosine and words together (`evidence.Candidate.score`).
        hit_coverage: Largest share of the question's words, weighed by rarity, that one chunk holds; in [0, 1].
        missing_names: Share of the question's names and numbers that no chunk mentions; in [0, 1].
    """

    cosine: float
    sentence_score: float
    hit_coverage: float
    missing_names: float


@dataclass(frozen=True, slots=True)
class Weights:
    """Log-odds for one unit of each signal, in the order of `Signals`, and at zero."""

    signals: tuple[float, float, float, float]
    intercept: float


WEIGHTS: Final[Mapping[Situation, Weights]] = {
    Situation.ENGLISH: Weights((4.87, 4.16, 2.86, -1.13), -5.94),
    Situation.SAME_LANGUAGE: Weights((1.09, 2.63, 4.54, -1.71), -3.48),
    Situation.CROSS_LANGUAGE: Weights((1.18, 1.94, 4.52, -1.74), -1.17),
}


@dataclass(frozen=True, slots=True)
class Support:
    """How well the material supports an answer: `score` in [0, 1], and whether that is enough to give one."""

    score: float
    is_enough: bool


def support_of(evidence: Evidence, *, abstain_below: float | None = None) -> Support:
    """Compares the support score with `abstain_below`, or with the calibrated threshold where it is None.

    Without any retrieved chunk there is no support, whatever the threshold.
    """
    threshold = ABSTAIN_BELOW if abstain_below is None else abstain_below
    score = support_score(signals_of(evidence), situation_of(evidence)) if evidence.hits else 0.0
    return Support(score, bool(evidence.hits) and score >= threshold)


def support_score(signals: Signals, situation: Situation) -> float:
    weights = WEIGHTS[situation]
    log_odds = weights.intercept + sum(map(operator.mul, weights.signals, astuple(signals)))
    return 1 / (1 + math.exp(-log_odds))


def situation_of(evidence: Evidence) -> Situation:
    if all(hit.language != evidence.language for hit in evidence.hits):
        return Situation.CROSS_LANGUAGE
    return Situation.ENGLISH if evidence.language == "en" else Situation.SAME_LANGUAGE


def signals_of(evidence: Evidence) -> Signals:
    return Signals(
        cosine=max((candidate.cosine for candidate in evidence.candidates), default=0.0),
        sentence_score=max((candidate.score for candidate in evidence.candidates), default=0.0),
        hit_coverage=max(evidence.hit_coverages, default=0.0),
        missing_names=evidence.missing_names,
    )
