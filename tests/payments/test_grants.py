"""Plans that an operator gives without payment."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx2 import Response
from sqlalchemy import text

from bwenge.kit.db import PLATFORM
from bwenge.kit.identity import Caller, Operator, TokenVerifier
from bwenge.kit.ids import new_id
from bwenge.payments.errors import GrantEndRefused
from bwenge.payments.service import Grant
from tests.support.application import Application, Person
from tests.support.feature_app import bearer, code_of
from tests.support.quotas import MIDYEAR, Metered, payments_feature

OPERATOR = Operator(user_id=new_id())
TOKEN = "an-operators-token"


class WithOperator:
    """Knows an operator's token beside those of members."""

    def __init__(self, others: TokenVerifier, *, operator: Caller) -> None:
        self.operator = operator
        self._others = others

    def verify(self, token: str) -> Caller:
        return self.operator if token == TOKEN else self._others.verify(token)


@pytest.fixture
async def owner(application: Application) -> Person:
    verifier: TokenVerifier = application.app.state.token_verifier
    token = (await application.add_operator())["Authorization"].removeprefix("Bearer ")
    application.app.state.token_verifier = WithOperator(verifier, operator=verifier.verify(token))
    return await application.register()


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


async def grant(application: Application, org_id: UUID | str, *, token: str = TOKEN, **changes: Any) -> Response:
    body = {"plan_name": "pro", "until": in_days(300), "reason": "A pilot of the district", **changes}
    return await application.client.post(f"/operator/orgs/{org_id}/grant", json=body, headers=bearer(token))


async def stored(application: Application, org_id: UUID) -> list[dict[str, Any]]:
    query = text(
        "SELECT plan_name, status, granted_reason, current_period_end FROM subscriptions WHERE org_id = :org_id"
        " ORDER BY id"
    )
    async with application.platform.resources.database.unit_of_work(PLATFORM) as session:
        return [dict(row) for row in (await session.execute(query, {"org_id": org_id})).mappings()]


async def test_an_operator_gives_a_plan(application: Application, owner: Person) -> None:
    until = in_days(30)
    answer = await grant(application, owner.org_id, until=until)

    assert answer.status_code == 200
    told = answer.json()
    assert (told["plan"], told["status"], told["cancel_at_period_end"]) == ("pro", "active", False)
    assert datetime.fromisoformat(told["current_period_end"]) == datetime.fromisoformat(until)
    assert told["quotas"]["users"] == {"limit": 1_000, "used": 1, "percentage": 0.1}
    assert (await application.client.get("/subscriptions/current", headers=owner.headers)).json() == told


async def test_the_act_stands_in_the_organisations_log_with_who_and_why(
    application: Application, owner: Person
) -> None:
    told = (await grant(application, owner.org_id)).json()

    log = (await application.client.get(f"/orgs/{owner.org_id}/audit", headers=owner.headers)).json()["items"]

    [entry] = [entry for entry in log if entry["action"] == "subscription.granted"]
    assert entry["actor_id"] == str(application.app.state.token_verifier.operator.user_id)
    assert (entry["target_type"], entry["target_id"]) == ("subscription", told["subscription_id"])
    assert (entry["detail"]["plan_name"], entry["detail"]["reason"]) == ("pro", "A pilot of the district")
    assert entry["detail"]["by"] == "operator"


async def test_the_next_plan_takes_the_place_of_the_present_one(application: Application, owner: Person) -> None:
    await grant(application, owner.org_id, plan_name="basic", reason="First")
    await grant(application, owner.org_id, plan_name="enterprise", reason="Second")

    rows = await stored(application, owner.org_id)
    assert [(row["plan_name"], row["status"], row["granted_reason"]) for row in rows] == [
        ("basic", "cancelled", "First"),
        ("enterprise", "active", "Second"),
    ]
    assert rows[0]["current_period_end"] <= datetime.now(UTC)


async def test_the_free_plan_takes_a_grant_back(application: Application, owner: Person) -> None:
    await grant(application, owner.org_id)
    told = (await grant(application, owner.org_id, plan_name="free")).json()
    assert (told["plan"], told["quotas"]["messages"]["limit"]) == ("free", 500)


async def test_a_plan_whose_time_was_over_is_noted_as_expired(metered: Metered) -> None:
    await metered.grant("basic", MIDYEAR + timedelta(days=5))
    metered.clock.now = MIDYEAR + timedelta(days=9)
    await metered.grant("pro", MIDYEAR + timedelta(days=20))
    query = text("SELECT status, current_period_end FROM subscriptions ORDER BY id")
    async with metered.database.unit_of_work(PLATFORM) as session:
        rows = [tuple(row) for row in await session.execute(query)]
    assert rows == [("expired", MIDYEAR + timedelta(days=5)), ("active", MIDYEAR + timedelta(days=20))]


async def test_a_date_is_the_end_of_that_day_in_the_organisation(application: Application, owner: Person) -> None:
    day = date.today() + timedelta(days=40)  # noqa: DTZ011  # any day will do
    told = (await grant(application, owner.org_id, until=day.isoformat())).json()
    assert told["current_period_end"] == f"{day.isoformat()}T22:00:00Z"


@pytest.mark.parametrize("until", [MIDYEAR, MIDYEAR - timedelta(days=1), MIDYEAR + timedelta(days=3_661), date.max])
async def test_an_end_that_is_past_or_too_far_is_refused(metered: Metered, until: datetime | date) -> None:
    service = payments_feature(metered.database, clock=metered.clock).subscriptions
    with pytest.raises(GrantEndRefused):
        await service.grant(metered.org_id, Grant("pro", until, "A pilot"), by=OPERATOR)


@pytest.mark.parametrize("changes", [{"until": in_days(-1)}, {"until": "2020-01-01"}, {"until": "9999-12-31"}])
async def test_such_an_end_is_named_and_nothing_changes(
    application: Application, owner: Person, changes: dict[str, Any]
) -> None:
    answer = await grant(application, owner.org_id, **changes)
    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"] == "until"
    assert await stored(application, owner.org_id) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_name": "gold"},
        {"until": "2099-01-01T00:00:00"},
        {"until": "tomorrow"},
        {"until": None},
        {"reason": " "},
        {"reason": "x" * 501},
        {"reason": "nul\x00"},
        {"price": 1},
    ],
)
async def test_malformed_grants_are_refused(application: Application, owner: Person, changes: dict[str, Any]) -> None:
    assert code_of(await grant(application, owner.org_id, **changes)) == (422, "invalid")


async def test_an_organisation_that_is_not_there_is_given_nothing(application: Application, owner: Person) -> None:
    del owner
    for org_id in (new_id(), "not-a-uuid"):
        assert code_of(await grant(application, org_id)) == (404, "not_found")


async def test_members_give_themselves_nothing(application: Application, owner: Person) -> None:
    token = owner.headers["Authorization"].removeprefix("Bearer ")
    assert code_of(await grant(application, owner.org_id, token=token)) == (403, "forbidden")
    assert code_of(await grant(application, owner.org_id, token="nobodys")) == (401, "unauthenticated")
    assert await stored(application, owner.org_id) == []


async def test_an_operator_has_no_subscription(application: Application, owner: Person) -> None:
    del owner
    answer = await application.client.get("/subscriptions/current", headers=bearer(TOKEN))
    assert code_of(answer) == (403, "forbidden")


async def test_grants_at_once_leave_one_plan_in_force(committed_metered: Metered) -> None:
    until = MIDYEAR + timedelta(days=30)
    await asyncio.gather(*(committed_metered.grant("pro", until) for _ in range(6)))
    query = text("SELECT status, count(*) FROM subscriptions GROUP BY status")
    async with committed_metered.database.unit_of_work(PLATFORM) as session:
        rows = {row[0]: row[1] for row in await session.execute(query)}
    assert rows == {"active": 1, "cancelled": 5}
