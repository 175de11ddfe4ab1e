"""POST /personas/{persona_id}/settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bwenge.persona.profile import ReplySettings
from bwenge.persona.schemas import PersonaSettings
from tests.support.feature_app import code_of
from tests.support.schools import School

VALID: dict[str, list[Any]] = {
    "answer_mode": ["grounded", "open"],
    "tutor_mode": ["answer", "hints"],
    "temperature": [0, 0.7, 2],
    "max_tokens": [1, 8192],
    "top_k": [1, 20],
    "alpha": [0, 0.5, 1],
    "fusion": ["relative", "rrf"],
    "abstain_below": [0, 0.25, 1],
    "language": ["en", "fr", "rw", "sw"],
    "greeting": ["Muraho!\nBite?", "x" * 1_000],
    "fallback_text": ["Simbizi.", "x" * 1_000],
    "model": ["gpt-4o-mini", "openai/gpt-4o:free", "llama3.1@local"],
}
INVALID: dict[str, list[Any]] = {
    "answer_mode": ["closed", 1],
    "tutor_mode": ["hint"],
    "temperature": [-0.1, 2.1, "0.5", True],
    "max_tokens": [0, 8193, 1.5, "5"],
    "top_k": [0, 21],
    "alpha": [-0.1, 1.1],
    "fusion": ["sum"],
    "abstain_below": [-1, 1.01],
    "language": ["de", "EN", ""],
    "greeting": ["", "  ", "x" * 1_001, "nul\x00"],
    "fallback_text": ["", "x" * 1_001],
    "model": ["", "two words", "x" * 101, "../etc"],
    "unknown": [1],
}


def _pairs(settings: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(key, value) for key, values in settings.items() for value in values]


async def test_settings_are_merged_and_answer_the_persona(school: School) -> None:
    made = await school.expert.make_persona(settings={"temperature": 0.3, "top_k": 4})

    answer = await school.expert.post(f"/personas/{made['persona_id']}/settings", {"top_k": 9, "fusion": "rrf"})

    after = answer.json()
    assert answer.status_code == 200
    assert after["settings"] == {"temperature": 0.3, "top_k": 9, "fusion": "rrf"}
    assert after == {**made, "settings": after["settings"], "version": 2, "updated_at": after["updated_at"]}
    assert (await school.expert.get(f"/personas/{made['persona_id']}")).json() == after


async def test_null_takes_a_setting_back(school: School) -> None:
    made = await school.expert.make_persona(settings={"temperature": 0.3, "language": "rw"})

    after = (await school.expert.post(f"/personas/{made['persona_id']}/settings", {"temperature": None})).json()

    assert after["settings"] == {"language": "rw"}


async def test_a_null_setting_of_a_new_persona_is_not_set(school: School) -> None:
    made = await school.expert.make_persona(settings={"temperature": None, "language": "rw"})

    assert made["settings"] == {"language": "rw"}


async def test_each_setting_is_kept_as_it_was_sent(school: School) -> None:
    settings = {key: values[-1] for key, values in VALID.items()}
    made = await school.expert.make_persona(settings={})

    after = (await school.expert.post(f"/personas/{made['persona_id']}/settings", settings)).json()

    assert after["settings"] == settings


async def test_a_refused_merge_changes_nothing(school: School) -> None:
    made = await school.expert.make_persona()
    path = f"/personas/{made['persona_id']}"

    answer = await school.expert.post(f"{path}/settings", {"top_k": 3, "unknown": True})

    assert code_of(answer) == (422, "invalid")
    assert [error["field"] for error in answer.json()["errors"]] == ["unknown"]
    assert (await school.expert.get(path)).json() == made


@pytest.mark.parametrize(("key", "value"), _pairs(VALID))
def test_a_value_in_range_is_valid(key: str, value: Any) -> None:
    assert PersonaSettings.model_validate({key: value}).model_dump(exclude_unset=True) == {key: value}


@pytest.mark.parametrize(("key", "value"), _pairs(INVALID))
def test_a_value_out_of_range_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        PersonaSettings.model_validate({key: value})


def test_the_settings_are_those_that_answers_are_made_from() -> None:
    assert set(PersonaSettings.model_fields) == set(VALID) == set(ReplySettings.__dataclass_fields__)


@given(
    st.dictionaries(
        st.sampled_from(sorted(VALID)), st.none() | st.booleans() | st.floats() | st.integers() | st.text(), max_size=4
    )
)
def test_what_is_accepted_makes_reply_settings(settings: dict[str, Any]) -> None:
    try:
        accepted = PersonaSettings.model_validate(settings)
    except ValidationError:
        return
    made = ReplySettings.of(accepted.model_dump(exclude_none=True))
    assert 0 <= made.temperature <= 2
    assert 1 <= made.top_k <= 20
