import itertools

import pytest

from tests.support.waiting import eventually


def test_it_returns_once_the_condition_holds() -> None:
    asked = itertools.count()

    eventually(lambda: next(asked) == 3, "the fourth question")

    assert next(asked) == 4


def test_it_says_what_never_came_to_be() -> None:
    with pytest.raises(TimeoutError, match="the sun in the west"):
        eventually(lambda: False, "the sun in the west", seconds=0.0)
