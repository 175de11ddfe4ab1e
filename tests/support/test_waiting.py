import itertools

import pytest

from tests.support.waiting import comes_true, eventually


def test_it_returns_once_the_condition_holds() -> None:
    asked = itertools.count()

    eventually(lambda: next(asked) == 3, "the fourth question")

    assert next(asked) == 4


def test_it_says_what_never_came_to_be() -> None:
    with pytest.raises(TimeoutError, match="the sun in the west"):
        eventually(lambda: False, "the sun in the west", seconds=0.0)


async def test_it_waits_for_what_has_to_be_awaited() -> None:
    asked = itertools.count()

    async def holds() -> bool:
        return next(asked) == 3

    await comes_true(holds, "the fourth question")

    assert next(asked) == 4


async def test_it_says_what_was_awaited_in_vain() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(TimeoutError, match="the sun in the west"):
        await comes_true(never, "the sun in the west", seconds=0.0)
