"""Quotas among transactions that really run beside each other."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from bwenge.kit.db import PLATFORM
from bwenge.kit.ids import new_id
from bwenge.payments.contract import QuotaKind
from bwenge.payments.errors import QuotaExhausted
from bwenge.payments.plans import FREE
from tests.support.databases import wait_for_a_waiting_lock
from tests.support.quotas import Metered, acts, drifted

LIMIT: Final = FREE.messages or 0

ACT_IDS: Final = [UUID(int=number) for number in range(2, 10)]
steps = st.tuples(
    st.sampled_from(["reserve", "settle", "release"]), st.sampled_from(ACT_IDS), st.sampled_from([0, 1, 90, 200, 500])
)
histories = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=4)
"""What happens one after the other: in each moment, steps that happen at once."""


async def refused(act: Awaitable[None]) -> bool:
    try:
        await act
    except QuotaExhausted:
        return True
    return False


def step(metered: Metered, kind: str, act_id: UUID, amount: int) -> Awaitable[None]:
    match kind:
        case "reserve":
            return metered.reserve(act_id, amount)
        case "settle":
            return metered.settle(act_id)
        case _:
            return metered.release(act_id)


async def forget_everything(metered: Metered) -> None:
    async with metered.database.unit_of_work(PLATFORM) as session:
        await session.execute(text("DELETE FROM organizations"))
        await session.execute(
            text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": metered.org_id}
        )


async def test_of_twenty_reservations_at_once_for_five_that_are_left_five_succeed(committed_metered: Metered) -> None:
    await committed_metered.reserve(new_id(), LIMIT - 5)

    refusals = await asyncio.gather(*(refused(committed_metered.reserve(new_id())) for _ in range(20)))

    assert refusals.count(False) == 5
    assert await committed_metered.used() == LIMIT
    assert await drifted(committed_metered.database) == []


async def test_the_first_reservations_of_a_period_make_its_row_together(committed_metered: Metered) -> None:
    await asyncio.gather(*(committed_metered.reserve(new_id()) for _ in range(10)))
    assert await committed_metered.used() == 10
    assert await drifted(committed_metered.database) == []


@pytest.mark.parametrize("begin", [0, 1])
async def test_an_act_that_is_reserved_by_twins_at_once_is_counted_once(committed_metered: Metered, begin: int) -> None:
    act_id = new_id()
    await committed_metered.reserve(new_id(), begin)
    await asyncio.gather(*(committed_metered.reserve(act_id, 3) for _ in range(8)))
    assert await committed_metered.used() == begin + 3


async def reserve_after(metered: Metered, act_id: UUID, *, then_release: bool) -> None:
    """Reserve for an act for which another transaction has just done so, and perhaps given it back, unseen yet."""
    fields: dict[str, Any] = {"kind": QuotaKind.MESSAGES, "act_id": act_id}
    async with metered.database.unit_of_work(metered.org_id) as session:
        await metered.quotas.reserve(session, metered.org_id, amount=1, **fields)
        if then_release:
            await metered.quotas.release(session, metered.org_id, **fields)
        twin = asyncio.create_task(metered.reserve(act_id))
        await wait_for_a_waiting_lock(metered.database)
    await twin


async def test_the_twin_of_the_act_that_took_the_last_message_is_not_refused(committed_metered: Metered) -> None:
    await committed_metered.reserve(new_id(), LIMIT - 1)
    await reserve_after(committed_metered, new_id(), then_release=False)
    assert await committed_metered.used() == LIMIT
    assert await drifted(committed_metered.database) == []


async def test_an_act_whose_twin_has_given_its_reservation_back_has_one_of_its_own(committed_metered: Metered) -> None:
    await reserve_after(committed_metered, new_id(), then_release=True)
    assert await committed_metered.used() == 1
    assert await drifted(committed_metered.database) == []


async def test_an_act_that_is_released_and_settled_at_once_ends_in_one_of_both_ways(
    committed_metered: Metered,
) -> None:
    for _ in range(10):
        act_id = new_id()
        await committed_metered.reserve(act_id)
        await asyncio.gather(
            *(committed_metered.release(act_id) for _ in range(3)),
            *(committed_metered.settle(act_id) for _ in range(3)),
        )
    ended = [act["state"] for act in await acts(committed_metered.database, committed_metered.org_id)]
    assert await committed_metered.used() == ended.count("settled")
    assert ended.count("settled") + ended.count("released") == 10


@given(history=histories)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_history_exceeds_the_limit_or_drifts_and_what_it_released_is_usable_again(
    committed_metered: Metered, history: list[list[tuple[str, UUID, int]]]
) -> None:
    metered = committed_metered
    await forget_everything(metered)
    for moment in history:
        before = await metered.used()
        refusals = await asyncio.gather(*(refused(step(metered, *each)) for each in moment))
        used = await metered.used()
        assert 0 <= used <= LIMIT
        assert await drifted(metered.database) == []
        # Refused is only what found no room beside all that the others could have taken.
        asked = sum(amount for kind, _, amount in moment if kind == "reserve")
        assert not any(refusals) or before + asked > LIMIT

    await metered.reserve(new_id(), LIMIT - await metered.used())
    assert await refused(metered.reserve(new_id()))
