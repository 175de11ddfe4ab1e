"""The plans that anybody may read, and what a member sees of their organisation's own."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.payments.contract import QuotaKind
from bwenge.payments.periods import utc_now
from bwenge.payments.plans import MB
from tests.support.application import Application
from tests.support.feature_app import code_of
from tests.support.quotas import Metered, SetClock


async def test_anybody_reads_the_plans(application: Application) -> None:
    answer = await application.client.get("/plans")

    assert answer.status_code == 200
    plans = answer.json()["plans"]
    assert [plan["plan_name"] for plan in plans] == ["free", "basic", "pro", "enterprise"]
    assert plans[1] == {
        "plan_name": "basic",
        "display_name": "Basic",
        "price": 15_000,
        "currency": "RWF",
        "quotas": {"messages": 5_000, "storage_bytes": 5 * 1024**3, "users": 200},
    }
    assert plans[3]["quotas"] == {"messages": None, "storage_bytes": None, "users": None}


async def test_a_new_organisation_is_on_the_free_plan(application: Application) -> None:
    owner = await application.register()
    await application.add_member(owner.org_id, Role.USER)

    answer = await application.client.get("/subscriptions/current", headers=owner.headers)

    subscription = answer.json()
    start, end = (datetime.fromisoformat(subscription.pop(f"current_period_{name}")) for name in ("start", "end"))
    assert start <= datetime.now(UTC) < end <= start + timedelta(days=31)
    assert subscription == {
        "subscription_id": None,
        "plan": "free",
        "status": "active",
        "cancel_at_period_end": False,
        "quotas": {
            "messages": {"limit": 500, "used": 0, "percentage": 0.0},
            "storage": {"limit": 500 * MB, "used": 0, "percentage": 0.0},
            "users": {"limit": 50, "used": 2, "percentage": 4.0},
        },
    }


@pytest.mark.parametrize("role", list(Role))
async def test_every_member_sees_what_is_used_of_a_plan(application: Application, role: Role) -> None:
    owner = await application.register()
    member = owner if role is Role.OWNER else await application.add_member(owner.org_id, role)
    metered = Metered(application.platform.resources.database, owner.org_id, SetClock(utc_now()))
    until = metered.clock.now + timedelta(days=300)
    await metered.grant("enterprise", until)
    await metered.reserve(new_id(), 3)
    await metered.reserve(new_id(), 2 * MB, kind=QuotaKind.STORAGE)

    subscription = (await application.client.get("/subscriptions/current", headers=member.headers)).json()

    assert subscription["subscription_id"] is not None
    assert (subscription["plan"], subscription["status"]) == ("enterprise", "active")
    assert datetime.fromisoformat(subscription["current_period_end"]) == until
    assert subscription["quotas"]["messages"] == {"limit": None, "used": 3, "percentage": None}
    assert subscription["quotas"]["storage"] == {"limit": None, "used": 2 * MB, "percentage": None}


async def test_a_deactivated_member_holds_no_seat_and_sees_nothing(application: Application) -> None:
    owner = await application.register()
    left = await application.add_member(owner.org_id, Role.USER)
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        await session.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": left.user_id})

    seen = await application.client.get("/subscriptions/current", headers=owner.headers)

    assert seen.json()["quotas"]["users"]["used"] == 1
    assert code_of(await application.client.get("/subscriptions/current", headers=left.headers)) == (
        401,
        "unauthenticated",
    )


async def test_a_stranger_sees_no_subscription(application: Application) -> None:
    assert code_of(await application.client.get("/subscriptions/current")) == (401, "unauthenticated")


async def test_another_organisation_uses_its_own_plan(application: Application) -> None:
    ours, theirs = await application.register(), await application.register()
    metered = Metered(application.platform.resources.database, theirs.org_id, SetClock(utc_now()))
    await metered.grant("pro", metered.clock.now + timedelta(days=30))
    await metered.reserve(new_id(), 9)

    seen = (await application.client.get("/subscriptions/current", headers=ours.headers)).json()

    assert (seen["plan"], seen["quotas"]["messages"]["used"]) == ("free", 0)
