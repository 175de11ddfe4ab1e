from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge.contract import SearchResult
from bwenge.persona.evidence import Evidence, gather_evidence
from bwenge.persona.grounding import ABSTAIN_BELOW, Signals, Situation, situation_of, support_of, support_score
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.personas import PHOTOSYNTHESIS, RESPIRATION, hit

SHARE = st.floats(0, 1)
SIGNALS = st.builds(Signals, cosine=SHARE, sentence_score=SHARE, hit_coverage=SHARE, missing_names=SHARE)


async def evidence_for(question: str, language: str = "en", *, material: str = "en") -> Evidence:
    hits = (hit(PHOTOSYNTHESIS, language=material), hit(RESPIRATION, language=material))
    return await gather_evidence(question, SearchResult(hits, language), embedder=FakeEmbedder())


async def test_a_question_in_the_words_of_the_material_is_supported() -> None:
    assert support_of(
        await evidence_for("What does photosynthesis turn light, water and carbon dioxide into?")
    ).is_enough


async def test_a_question_of_another_field_is_not_supported() -> None:
    assert not support_of(await evidence_for("Which team won the football cup in Lagos?")).is_enough


async def test_the_threshold_of_the_persona_overrides_the_calibrated_one() -> None:
    evidence = await evidence_for("What does photosynthesis release?")
    score = support_of(evidence).score
    assert support_of(evidence, abstain_below=score).is_enough
    assert not support_of(evidence, abstain_below=min(1.0, score + 0.001)).is_enough


async def test_threshold_zero_never_abstains_where_something_was_found() -> None:
    assert support_of(await evidence_for("Which team won the football cup?"), abstain_below=0.0).is_enough


async def test_nothing_found_is_no_support_even_at_threshold_zero() -> None:
    evidence = replace(await evidence_for("Anything?"), hits=(), candidates=(), hit_coverages=())
    support = support_of(evidence, abstain_below=0.0)
    assert (support.score, support.is_enough) == (0.0, False)


@pytest.mark.parametrize(
    ("language", "material", "situation"),
    [
        ("en", "en", Situation.ENGLISH),
        ("fr", "fr", Situation.SAME_LANGUAGE),
        ("rw", "en", Situation.CROSS_LANGUAGE),
        ("en", "fr", Situation.CROSS_LANGUAGE),
    ],
)
async def test_the_situation_follows_the_languages(language: str, material: str, situation: Situation) -> None:
    assert situation_of(await evidence_for("Sugar?", language, material=material)) is situation


@given(signals=SIGNALS, situation=st.sampled_from(Situation), more=st.floats(0.01, 1))
def test_every_signal_moves_the_score_its_own_way(signals: Signals, situation: Situation, more: float) -> None:
    score = support_score(signals, situation)
    assert 0.0 <= score <= 1.0
    assert support_score(replace(signals, cosine=signals.cosine + more), situation) > score
    assert support_score(replace(signals, hit_coverage=signals.hit_coverage + more), situation) > score
    assert support_score(replace(signals, missing_names=signals.missing_names + more), situation) < score


@pytest.mark.parametrize("situation", Situation)
def test_words_count_more_than_cosine_outside_of_english(situation: Situation) -> None:
    only_words = support_score(Signals(0.2, 0.5, 1.0, 0.0), situation)
    only_cosine = support_score(Signals(0.8, 0.5, 0.2, 0.0), situation)
    assert (only_words > only_cosine) is (situation is not Situation.ENGLISH)


@pytest.mark.parametrize("situation", Situation)
def test_the_default_threshold_lies_between_clear_cases(situation: Situation) -> None:
    assert support_score(Signals(0.8, 0.8, 1.0, 0.0), situation) > ABSTAIN_BELOW
    assert support_score(Signals(0.05, 0.05, 0.05, 1.0), situation) < ABSTAIN_BELOW
