from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.chat.errors import TooManyQuestions
from bwenge.chat.rate import QuestionRate

KEZA = UUID("01900000-0000-7000-8000-000000000001")
MUGABO = UUID("01900000-0000-7000-8000-000000000002")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_questions_are_admitted_again_when_the_first_is_a_minute_old(clock: Clock) -> None:
    rate = QuestionRate(2, clock=clock)
    rate.admit(KEZA)
    clock.now += 20
    rate.admit(KEZA)
    clock.now += 10

    with pytest.raises(TooManyQuestions) as refused:
        rate.admit(KEZA)
    clock.now += 30
    rate.admit(KEZA)

    assert refused.value.retry_after == 30
    assert refused.value.code == "rate_limited"


def test_users_are_counted_apart(clock: Clock) -> None:
    rate = QuestionRate(1, clock=clock)
    rate.admit(KEZA)

    rate.admit(MUGABO)

    with pytest.raises(TooManyQuestions):
        rate.admit(KEZA)


def test_users_who_ask_no_more_are_forgotten(clock: Clock) -> None:
    rate = QuestionRate(1, clock=clock)
    rate.admit(KEZA)
    clock.now += 61

    rate.admit(MUGABO)

    assert list(rate._asked) == [MUGABO]


def seconds_to_wait(rate: QuestionRate) -> float | None:
    """None if the question is admitted."""
    try:
        rate.admit(KEZA)
    except TooManyQuestions as refused:
        return refused.retry_after
    return None


@given(st.lists(st.floats(min_value=0, max_value=50), min_size=1, max_size=60))
def test_the_wait_is_more_than_nothing_and_at_most_a_minute(waits: list[float]) -> None:
    clock = Clock()
    rate = QuestionRate(1, clock=clock)
    for wait in waits:
        clock.now += wait
        told = seconds_to_wait(rate)
        assert told is None or 0 < told <= 60


@given(st.lists(st.floats(min_value=0, max_value=50), max_size=60), st.integers(min_value=1, max_value=5))
def test_no_minute_holds_more_than_the_limit(waits: list[float], limit: int) -> None:
    clock = Clock()
    rate = QuestionRate(limit, clock=clock)
    admitted: list[float] = []
    for wait in waits:
        clock.now += wait
        if seconds_to_wait(rate) is None:
            admitted.append(clock.now)

    for position, moment in enumerate(admitted):
        within = [other for other in admitted[: position + 1] if moment - other < 60]
        assert len(within) <= limit
