"""What an organisation may use, and that it is counted once, in its own period, and given back once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from bwenge.auth.contract import SeatPolicy
from bwenge.kit.db import PLATFORM
from bwenge.kit.errors import NotFound
from bwenge.kit.ids import new_id
from bwenge.payments.contract import QuotaKind, QuotaUse
from bwenge.payments.errors import QuotaExhausted
from bwenge.payments.plans import GB, MB, PLANS, plan_named
from tests.support.quotas import MIDYEAR, Metered, acts, drifted, plan_quotas

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
"""Where the free plan's messages of a month are counted."""
JULY_IN_KIGALI = datetime(2026, 6, 30, 22, tzinfo=UTC)
ZONES = ("Pacific/Kiritimati", "Asia/Kathmandu", "UTC", "America/St_Johns", "Etc/GMT+12")
STORAGE = QuotaKind.STORAGE


async def states(metered: Metered) -> list[str]:
    return [act["state"] for act in await acts(metered.database, metered.org_id)]


def test_the_plans_are_those_of_the_price_list() -> None:
    listed = [(plan.name, plan.price, plan.messages, plan.storage_bytes, plan.users) for plan in PLANS]
    assert listed == [
        ("free", 0, 500, 500 * MB, 50),
        ("basic", 15_000, 5_000, 5 * GB, 200),
        ("pro", 75_000, 50_000, 50 * GB, 1_000),
        ("enterprise", 300_000, None, None, None),
    ]
    assert all(plan_named(plan.name) is plan for plan in PLANS)


@pytest.mark.parametrize(
    ("limit", "used", "percentage"), [(500, 0, 0), (500, 123, 24.6), (3, 1, 33.3), (500, 600, 120), (None, 9, None)]
)
def test_the_share_that_is_used(limit: int | None, used: int, percentage: float | None) -> None:
    assert QuotaUse(limit, used).percentage == percentage


async def test_the_last_message_is_given_and_the_next_one_refused(metered: Metered) -> None:
    await metered.reserve(new_id(), 499)
    await metered.reserve(new_id())
    with pytest.raises(QuotaExhausted) as refused:
        await metered.reserve(new_id())

    assert await metered.used() == 500
    assert refused.value.code == "quota_exhausted"
    assert refused.value.detail == (
        "The 500 messages of the Free plan are used up until 2026-07-01; for more, ask an administrator of your "
        "organisation to choose a larger plan"
    )


async def test_storage_says_what_is_needed_and_what_is_left(metered: Metered) -> None:
    await metered.reserve(new_id(), 499 * MB + 512 * 1024, kind=STORAGE)
    with pytest.raises(QuotaExhausted) as refused:
        await metered.reserve(new_id(), 2 * GB, kind=STORAGE)

    assert refused.value.detail == (
        "The file needs 2.0 GB and 512.0 KB of the Free plan's storage are left; delete sources that are not needed "
        "any more, or ask an administrator to choose a larger plan"
    )


async def test_room_is_looked_for_without_taking_it(metered: Metered) -> None:
    await metered.require_room(500 * MB, kind=STORAGE)
    with pytest.raises(QuotaExhausted, match=r"needs 500\.0 MB"):
        await metered.require_room(500 * MB + 1, kind=STORAGE)
    assert await metered.used(STORAGE) == 0


async def test_the_kinds_are_counted_apart(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id, 7)
    await metered.reserve(act_id, 11, kind=STORAGE)
    await metered.release(act_id)
    assert (await metered.used(), await metered.used(STORAGE)) == (0, 11)


async def test_an_act_is_counted_once_however_often_it_asks(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id, 3)
    await metered.reserve(act_id, 5)
    await metered.settle(act_id)
    await metered.settle(act_id)
    await metered.reserve(act_id, 5)
    assert (await metered.used(), await states(metered)) == (3, ["settled"])


async def test_an_act_that_has_its_reservation_keeps_it_when_the_quota_is_used_up(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id, 500)
    await metered.reserve(act_id, 500)
    assert await metered.used() == 500


async def test_what_is_released_is_given_back_once_and_usable_again(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id, 500)
    await metered.release(act_id)
    await metered.release(act_id)
    await metered.settle(act_id)
    assert (await metered.used(), await states(metered)) == (0, ["released"])

    await metered.reserve(new_id(), 500)
    assert await metered.used() == 500


async def test_a_released_act_is_reserved_anew(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id, 2)
    await metered.release(act_id)
    metered.clock.now = JULY_IN_KIGALI
    await metered.reserve(act_id, 9)
    assert await metered.used_by_period() == {JUNE: 0, JULY: 9}
    assert await states(metered) == ["reserved"]
    assert await drifted(metered.database) == []


async def test_what_is_settled_is_used_for_good(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id)
    await metered.settle(act_id)
    await metered.release(act_id)
    assert (await metered.used(), await states(metered)) == (1, ["settled"])


async def test_an_unknown_act_has_nothing_to_settle_or_to_release(metered: Metered) -> None:
    await metered.settle(new_id())
    await metered.release(new_id())
    assert await states(metered) == []


async def test_a_new_month_begins_with_nothing_used_and_takes_nothing_from_the_old_one(metered: Metered) -> None:
    act_id = new_id()
    await metered.reserve(act_id, 500)
    metered.clock.now = JULY_IN_KIGALI
    await metered.reserve(new_id(), 20)
    await metered.release(act_id)
    assert await metered.used_by_period() == {JUNE: 0, JULY: 20}


async def test_a_month_ends_at_midnight_of_the_organisation(metered: Metered) -> None:
    metered.clock.now = JULY_IN_KIGALI - timedelta(seconds=1)
    await metered.reserve(new_id(), 500)
    with pytest.raises(QuotaExhausted):
        await metered.reserve(new_id())
    metered.clock.now = JULY_IN_KIGALI
    await metered.reserve(new_id())


async def move(metered: Metered, zone: str) -> None:
    async with metered.database.unit_of_work(metered.org_id) as session:
        await session.execute(text("UPDATE organizations SET time_zone = :zone"), {"zone": zone})


@pytest.mark.parametrize("now", [MIDYEAR, JULY_IN_KIGALI - timedelta(hours=20), JULY_IN_KIGALI])
async def test_another_time_zone_gives_no_message_back(metered: Metered, now: datetime) -> None:
    """Where it is another month already, that month's messages; none a second time on the way back."""
    metered.clock.now = now
    for zone in (*ZONES, *ZONES):
        await move(metered, zone)
        await metered.reserve(new_id(), 500 - await metered.used())
        with pytest.raises(QuotaExhausted):
            await metered.reserve(new_id())
    used = await metered.used_by_period()
    assert used.keys() <= {JUNE, JULY}
    assert set(used.values()) == {500}


async def test_another_time_zone_takes_no_message_away(metered: Metered) -> None:
    metered.clock.now = JULY - timedelta(hours=1)
    await metered.reserve(new_id(), 300)
    await move(metered, "America/New_York")
    await metered.reserve(new_id(), 500)
    metered.clock.now = JULY + timedelta(days=1)
    assert await metered.used() == 300


@pytest.mark.parametrize("zone", ["Africa/Kigali", *ZONES])
async def test_what_a_month_has_counted_from_its_beginning_on_another_clock_is_counted(
    metered: Metered, zone: str
) -> None:
    """As rows are that were written when a month was its beginning."""
    act_id = new_id()
    begun = datetime(2026, 6, 1, tzinfo=ZoneInfo(zone))
    async with metered.database.unit_of_work(metered.org_id) as session:
        fields = {"org_id": metered.org_id, "act_id": act_id, "begun": begun, "before": JUNE - timedelta(days=16)}
        for statement in (
            "INSERT INTO usage_quotas (org_id, kind, period_start, used) VALUES (:org_id, 'messages', :begun, 499)",
            "INSERT INTO usage_quotas (org_id, kind, period_start, used) VALUES (:org_id, 'messages', :before, 70)",
        ):
            await session.execute(text(statement), fields)
        reservation = "INSERT INTO quota_reservations VALUES (:org_id, 'messages', :act_id, :begun, 499)"
        await session.execute(text(reservation), fields)

    await metered.reserve(new_id())
    with pytest.raises(QuotaExhausted):
        await metered.reserve(new_id())
    assert await metered.used() == 500

    await metered.release(act_id)
    assert await metered.used() == 1


async def test_a_plan_that_began_with_the_month_leaves_the_free_plans_messages(metered: Metered) -> None:
    metered.clock.now = JUNE + timedelta(hours=7, seconds=3)
    await metered.grant("basic", MIDYEAR)
    await metered.reserve(new_id(), 5_000)
    metered.clock.now = MIDYEAR
    await metered.reserve(new_id(), 500)


async def test_storage_is_used_until_it_is_given_back(metered: Metered) -> None:
    await metered.reserve(new_id(), MB, kind=STORAGE)
    metered.clock.now = MIDYEAR + timedelta(days=4_000)
    assert await metered.used(STORAGE) == MB


async def test_a_larger_plan_has_its_own_limit_and_counts_from_its_beginning(metered: Metered) -> None:
    await metered.reserve(new_id(), 500)
    await metered.grant("basic", MIDYEAR + timedelta(days=30))
    await metered.reserve(new_id(), 5_000)
    with pytest.raises(QuotaExhausted, match=r"The 5,000 messages of the Basic plan are used up until 2026-07-15"):
        await metered.reserve(new_id())
    assert await metered.used_by_period() == {JUNE: 500, MIDYEAR: 5_000}


async def test_a_plan_of_a_year_has_its_messages_every_month(metered: Metered) -> None:
    await metered.grant("basic", MIDYEAR + timedelta(days=365))
    await metered.reserve(new_id(), 5_000)
    metered.clock.now = MIDYEAR + timedelta(days=30)
    await metered.reserve(new_id(), 5_000)
    assert await metered.used_by_period() == {MIDYEAR: 5_000, datetime(2026, 7, 15, 12, tzinfo=UTC): 5_000}


async def test_enterprise_counts_without_a_limit(metered: Metered) -> None:
    await metered.grant("enterprise", MIDYEAR + timedelta(days=30))
    await metered.reserve(new_id(), 10**9)
    await metered.reserve(new_id(), 10**15, kind=STORAGE)
    await metered.require_room(10**15, kind=STORAGE)
    assert (await metered.used(), await metered.used(STORAGE)) == (10**9, 10**15)


async def test_a_subscription_that_is_over_leaves_the_free_plan(metered: Metered) -> None:
    await metered.grant("pro", MIDYEAR + timedelta(days=10))
    await metered.reserve(new_id(), 40_000)
    await metered.reserve(new_id(), GB, kind=STORAGE)
    metered.clock.now = MIDYEAR + timedelta(days=10)

    await metered.reserve(new_id(), 500)
    with pytest.raises(QuotaExhausted, match="Free plan"):
        await metered.reserve(new_id())
    with pytest.raises(QuotaExhausted, match="needs 1 bytes and 0 bytes of the Free plan's storage are left"):
        await metered.reserve(new_id(), 1, kind=STORAGE)


@pytest.mark.parametrize(
    ("status", "seats"), [("active", 200), ("past_due", 200), ("pending", 50), ("cancelled", 50), ("expired", 50)]
)
async def test_seats_are_those_of_the_plan_in_force(metered: Metered, status: str, seats: int) -> None:
    await metered.grant("basic", MIDYEAR + timedelta(days=30))
    async with metered.database.unit_of_work(PLATFORM) as session:
        await session.execute(text("UPDATE subscriptions SET status = :status"), {"status": status})
    async with metered.database.unit_of_work(metered.org_id) as session:
        policy: SeatPolicy = metered.quotas
        assert await policy.seats(session, metered.org_id) == seats


async def test_a_time_zone_that_this_machine_does_not_know_counts_as_utc(metered: Metered) -> None:
    async with metered.database.unit_of_work(metered.org_id) as session:
        await session.execute(text("UPDATE organizations SET time_zone = 'Mars/Olympus'"))
    await metered.reserve(new_id())
    assert await metered.used_by_period() == {datetime(2026, 6, 1, tzinfo=UTC): 1}


async def test_an_organisation_that_is_not_there_has_no_quota(metered: Metered) -> None:
    unknown = new_id()
    async with metered.database.unit_of_work(unknown) as session:
        with pytest.raises(NotFound):
            await plan_quotas().seats(session, unknown)


async def test_an_act_gives_nothing(metered: Metered) -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        await metered.reserve(new_id(), -1)


async def test_a_refusal_that_the_caller_survives_leaves_nothing_behind(metered: Metered) -> None:
    quotas, org_id = metered.quotas, metered.org_id
    fields: dict[str, Any] = {"kind": QuotaKind.MESSAGES, "amount": 501, "act_id": new_id()}
    async with metered.database.unit_of_work(org_id) as session:
        with pytest.raises(QuotaExhausted):
            await quotas.reserve(session, org_id, **fields)
    assert (await metered.used(), await states(metered), await drifted(metered.database)) == (0, [], [])
