"""What logins and refreshes leave in the audit log, also where they are refused."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from bwenge.kit.db import PLATFORM, Database
from tests.auth.conftest import TurnedClock
from tests.support.accounts import EMAIL, PASSWORD, registration
from tests.support.audit import audited
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer


async def _log_in(client: AsyncClient, email: str, password: str) -> int:
    return (await client.post("/auth/login", json={"email": email, "password": password})).status_code


async def test_a_refused_login_is_noted_in_the_accounts_organisation(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    await _log_in(client, EMAIL, "not the password")

    [noted] = await audited(database, action="login.refused")
    assert (noted.org_id, noted.actor_id, noted.target_id) == (
        login["user"]["org_id"],
        None,
        login["user"]["user_id"],
    )
    page = await client.get(f"/orgs/{login['user']['org_id']}/audit", headers=bearer(login["access_token"]))
    assert page.json()["items"][0]["action"] == "login.refused"


@pytest.mark.usefixtures("login")
async def test_an_invented_account_is_counted_and_logged_without_its_name_and_adds_no_entry(
    client: AsyncClient, database: SavepointDatabase
) -> None:
    """Else who invents names would fill the audit log, which nothing is taken from."""
    before = len(await audited(database)), _unknown("login.refused"), _unknown("password.reset_refused")
    code = {"username": "nobody.at.all", "code": "AAAAAAAA", "new_password": "inyoni zo mu gishanga"}
    with capture_logs() as records:
        await _log_in(client, "nobody@gs-kimironko.rw", "not the password")
        await client.post("/auth/password/reset", json=code)

    counted = _unknown("login.refused"), _unknown("password.reset_refused")
    assert (len(await audited(database)), *counted) == (before[0], before[1] + 1, before[2] + 1)
    noted = [record for record in records if record["event"] == "unknown_account"]
    assert [record["action"] for record in noted] == ["login.refused", "password.reset_refused"]
    assert "nobody" not in str(records)


def _unknown(action: str) -> float:
    return REGISTRY.get_sample_value("bwenge_unknown_account_attempts_total", {"action": action}) or 0.0


async def test_a_login_is_noted_as_its_members_act(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    await _log_in(client, EMAIL, PASSWORD)

    [noted] = await audited(database, action="login.succeeded")
    assert (noted.org_id, noted.actor_id) == (login["user"]["org_id"], login["user"]["user_id"])


@pytest.mark.usefixtures("login")
async def test_an_attempt_that_has_to_wait_is_not_noted(client: AsyncClient, database: SavepointDatabase) -> None:
    """Else who asks without end would fill the log without end."""
    for _ in range(20):
        await _log_in(client, EMAIL, "not the password")

    assert len(await audited(database, action="login.refused")) == 5


async def test_a_reused_refresh_token_is_noted_once(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any], clock: TurnedClock
) -> None:
    body = {"refresh_token": login["refresh_token"]}
    await client.post("/auth/refresh", json=body)
    clock.turn(seconds=11)
    answers = [await client.post("/auth/refresh", json=body) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401] * 3
    [noted] = await audited(database, action="session.reuse_detected")
    assert (noted.org_id, noted.target_id) == (login["user"]["org_id"], login["user"]["user_id"])


async def test_facts_survive_their_refusals(
    committed_client: AsyncClient, committed_database: Database, clock: TurnedClock
) -> None:
    login = (await committed_client.post("/auth/register", json=registration())).json()
    await _log_in(committed_client, EMAIL, "not the password")
    for _ in range(2):
        await committed_client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})
        clock.turn(seconds=11)

    async with committed_database.unit_of_work(PLATFORM) as session:
        noted = await session.scalars(text("SELECT action FROM audit_log ORDER BY id"))
        assert list(noted) == ["login.refused", "session.reuse_detected"]


async def test_no_entry_holds_a_secret(client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]) -> None:
    await _log_in(client, EMAIL, PASSWORD)
    await _log_in(client, EMAIL, "not the password")

    entries = str(await audited(database))
    for secret in (PASSWORD, "not the password", login["refresh_token"], login["access_token"], EMAIL):
        assert secret not in entries


@pytest.mark.usefixtures("login")
async def test_entries_say_where_from(client: AsyncClient, database: SavepointDatabase) -> None:
    await _log_in(client, EMAIL, PASSWORD)

    async with database.superuser() as connection:
        assert (await connection.execute(text("SELECT DISTINCT address FROM audit_log"))).scalars().all() == [
            "127.0.0.1"
        ]
