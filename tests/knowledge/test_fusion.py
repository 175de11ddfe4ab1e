"""The laws of fusing two rankings, whatever the scores are."""

import itertools
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bwenge.knowledge.contract import Fusion
from bwenge.knowledge.fusion import RRF_CONSTANT, alpha_for, fuse

ROUNDING: Final = 1e-9
"""Scores nearer to each other than this may become one in the arithmetic of min-max: 1e-38 above 0 is lost beside 1."""

scores = st.floats(min_value=-1.0, max_value=50.0, allow_nan=False, width=32)
sides = st.dictionaries(st.integers(0, 30), scores, max_size=12)
alphas = st.floats(min_value=0.0, max_value=1.0)
methods: st.SearchStrategy[Fusion] = st.sampled_from(["relative", "rrf"])


@given(sides, sides, alphas, methods)
def test_every_candidate_of_either_side_has_a_score_between_zero_and_one(
    dense: dict[int, float], bm25: dict[int, float], alpha: float, method: Fusion
) -> None:
    fused = fuse(dense, bm25, alpha=alpha, method=method)
    assert fused.keys() == dense.keys() | bm25.keys()
    assert all(0.0 <= score <= 1.0 + 1e-9 for score in fused.values())


@given(sides, sides, methods)
@example(dense={}, bm25={0: 0.0, 1: 1.1754943508222875e-38, 2: -1.0}, method="relative")
def test_alpha_of_one_orders_by_the_dense_side_and_of_zero_by_the_other(
    dense: dict[int, float], bm25: dict[int, float], method: Fusion
) -> None:
    for side, fused in (
        (dense, fuse(dense, bm25, alpha=1.0, method=method)),
        (bm25, fuse(dense, bm25, alpha=0.0, method=method)),
    ):
        for better, worse in itertools.permutations(side, 2):
            if side[better] > side[worse]:
                assert fused[better] >= fused[worse]
            if side[better] - side[worse] > ROUNDING:
                assert fused[better] > fused[worse]
        assert all(fused[key] == 0.0 for key in fused.keys() - side.keys())


@given(sides, sides, alphas, methods)
def test_who_is_no_worse_on_both_sides_is_no_worse_fused(
    dense: dict[int, float], bm25: dict[int, float], alpha: float, method: Fusion
) -> None:
    fused = fuse(dense, bm25, alpha=alpha, method=method)
    absent = float("-inf")
    for a in fused:
        for b in fused:
            if dense.get(a, absent) > dense.get(b, absent) and bm25.get(a, absent) > bm25.get(b, absent):
                assert fused[a] >= fused[b] - 1e-9


@given(sides, sides, alphas, methods)
def test_names_of_candidates_do_not_matter(
    dense: dict[int, float], bm25: dict[int, float], alpha: float, method: Fusion
) -> None:
    fused = fuse(dense, bm25, alpha=alpha, method=method)
    renamed = fuse(
        {f"chunk {key}": score for key, score in dense.items()},
        {f"chunk {key}": score for key, score in bm25.items()},
        alpha=alpha,
        method=method,
    )
    assert renamed == {f"chunk {key}": score for key, score in fused.items()}


@given(sides, sides, alphas, methods)
def test_the_sides_may_change_places_with_their_weights(
    dense: dict[int, float], bm25: dict[int, float], alpha: float, method: Fusion
) -> None:
    there = fuse(dense, bm25, alpha=alpha, method=method)
    back = fuse(bm25, dense, alpha=1.0 - alpha, method=method)
    assert back == pytest.approx(there, abs=1e-9)


@given(sides, alphas, st.floats(min_value=0.5, max_value=8.0), st.floats(min_value=-5.0, max_value=5.0))
def test_the_unit_of_a_sides_scores_does_not_matter(
    dense: dict[int, float], alpha: float, factor: float, shift: float
) -> None:
    rounded = {key: round(score, 2) for key, score in dense.items()}
    scaled = {key: score * factor + shift for key, score in rounded.items()}
    assert fuse(scaled, {}, alpha=alpha, method="relative") == pytest.approx(
        fuse(rounded, {}, alpha=alpha, method="relative"), abs=1e-6
    )


def test_no_candidates_fuse_to_none() -> None:
    assert fuse({}, {}, alpha=0.5, method="relative") == {}


def test_relative_scores_are_min_max_weighted() -> None:
    fused = fuse({"a": 0.9, "b": 0.5, "c": 0.1}, {"b": 8.0, "a": 4.0}, alpha=0.5, method="relative")
    assert fused == pytest.approx({"a": 0.5, "b": 0.75, "c": 0.0})


def test_a_side_whose_candidates_are_all_alike_gives_each_its_whole_weight() -> None:
    assert fuse({"a": 0.4, "b": 0.4}, {}, alpha=0.3, method="relative") == pytest.approx({"a": 0.3, "b": 0.3})


def test_reciprocal_ranks_fall_as_the_paper_says_and_begin_at_one() -> None:
    k = RRF_CONSTANT
    fused = fuse({"a": 0.9, "b": 0.5}, {"b": 8.0, "a": 4.0, "c": 1.0}, alpha=0.4, method="rrf")
    assert fused == pytest.approx(
        {"a": 0.4 + 0.6 * (k + 1) / (k + 2), "b": 0.6 + 0.4 * (k + 1) / (k + 2), "c": 0.6 * (k + 1) / (k + 3)}
    )


@pytest.mark.parametrize(("language", "alpha"), [("en", 0.5), ("fr", 0.3), ("rw", 0.3), ("sw", 0.3)])
def test_the_contracts_weight_of_the_dense_side_by_language(language: str, alpha: float) -> None:
    assert alpha_for(language) == alpha
