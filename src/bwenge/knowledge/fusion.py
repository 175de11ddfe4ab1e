"""Fusing two rankings into one: relative scores weighted by alpha, or reciprocal ranks."""

from collections.abc import Mapping
from typing import Final, TypeVar

from bwenge.knowledge.contract import Fusion

K = TypeVar("K")

RRF_CONSTANT: Final = 60
"""Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009."""

ALPHA_ENGLISH: Final = 0.5
ALPHA_OTHER: Final = 0.3
"""Measured: docs/decisions/0004-retrieval.md."""


def alpha_for(language: str) -> float:
    return ALPHA_ENGLISH if language == "en" else ALPHA_OTHER


def fuse(dense: Mapping[K, float], bm25: Mapping[K, float], *, alpha: float, method: Fusion) -> dict[K, float]:
    """Scores in [0, 1] of every candidate of either side; a side that did not find a candidate gives it 0.

    `alpha` weighs the dense side in both methods.
    """
    scale = _relative if method == "relative" else _reciprocal_rank
    sides = ((scale(dense), alpha), (scale(bm25), 1.0 - alpha))
    return {key: sum(side.get(key, 0.0) * weight for side, weight in sides) for key in {**dense, **bm25}}


def _relative(scores: Mapping[K, float]) -> dict[K, float]:
    """Min-max over the side's candidates."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - low) / (high - low) for key, score in scores.items()}


def _reciprocal_rank(scores: Mapping[K, float]) -> dict[K, float]:
    """1 for the first, falling as (k + 1) / (k + rank)."""
    ordered = sorted(scores, key=lambda key: -scores[key])
    return {key: (RRF_CONSTANT + 1) / (RRF_CONSTANT + rank) for rank, key in enumerate(ordered, start=1)}
