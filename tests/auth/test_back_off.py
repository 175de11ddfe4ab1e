"""Wrong passwords make the next attempt wait: one account, from one network, in the database."""

import asyncio
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient, Response
from pwdlib import PasswordHash
from sqlalchemy import text

from bwenge.auth.back_off import BackOff
from bwenge.auth.errors import InvalidCredentials
from bwenge.auth.settings import AuthSettings
from bwenge.auth.wiring import AuthFeature, build
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import RateLimited
from tests.auth.conftest import StandingClock, TurnedClock
from tests.support.accounts import EMAIL, PASSWORD, USERNAME, registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

UNKNOWN = "nobody@gs-kimironko.rw"
KEY = b"k" * 32


@pytest.fixture
def clock() -> TurnedClock:
    return StandingClock()


async def _try(client: AsyncClient, password: str = "not the password", *, account: str = EMAIL) -> Response:
    return await client.post("/auth/login", json={"identifier": account, "password": password})


async def _fail(client: AsyncClient, times: int, *, account: str = EMAIL) -> None:
    for _ in range(times):
        assert code_of(await _try(client, account=account)) == (401, "invalid_credentials")


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("account", [EMAIL, UNKNOWN])
async def test_after_five_wrong_passwords_the_next_attempt_waits_ever_longer(
    client: AsyncClient, clock: TurnedClock, account: str
) -> None:
    await _fail(client, 5, account=account)
    waits = []
    for _ in range(8):
        refused = await _try(client, PASSWORD, account=account)
        assert code_of(refused) == (429, "rate_limited")
        assert refused.headers["ratelimit-limit"] == "5"
        waits.append(int(refused.headers["retry-after"]))
        clock.turn(seconds=waits[-1])
        await _fail(client, 1, account=account)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.usefixtures("login")
async def test_a_right_password_after_the_wait_clears_it(client: AsyncClient, clock: TurnedClock) -> None:
    await _fail(client, 5)
    clock.turn(seconds=1)

    assert (await _try(client, PASSWORD)).status_code == 200
    await _fail(client, 5)


@pytest.mark.usefixtures("login")
async def test_an_attempt_while_one_waits_does_not_prolong_it(client: AsyncClient, clock: TurnedClock) -> None:
    await _fail(client, 5)
    for _ in range(10):
        assert (await _try(client)).status_code == 429
    clock.turn(seconds=1)

    assert (await _try(client, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("login")
async def test_four_wrong_passwords_are_forgotten_after_a_quarter_of_an_hour(
    client: AsyncClient, clock: TurnedClock
) -> None:
    await _fail(client, 4)
    clock.turn(minutes=15, seconds=1)

    await _fail(client, 5)
    assert (await _try(client)).status_code == 429


@pytest.mark.usefixtures("login")
async def test_who_had_to_wait_is_forgotten_a_quarter_of_an_hour_after_the_last_failure(
    client: AsyncClient, clock: TurnedClock
) -> None:
    await _fail(client, 5)
    clock.turn(minutes=14)
    await _fail(client, 1)
    clock.turn(minutes=14)
    await _fail(client, 1)
    assert (await _try(client)).headers["retry-after"] == "4"
    clock.turn(minutes=15, seconds=1)

    await _fail(client, 4)


@pytest.mark.usefixtures("login")
async def test_all_names_of_one_account_are_counted_together(client: AsyncClient) -> None:
    for account in (EMAIL, EMAIL.upper(), f" {EMAIL} ", USERNAME, USERNAME.upper()):
        await _fail(client, 1, account=account)

    for account in (EMAIL, USERNAME):
        assert (await _try(client, account=account)).status_code == 429


@pytest.mark.parametrize("letter", ["\u0130", "\u0131"])
async def test_letters_that_only_look_like_those_of_an_account_name_nobody(client: AsyncClient, letter: str) -> None:
    """To PostgreSQL, a capital I with a dot is one more way to write an i."""
    account = registration(email="iriza@gs-remera.rw", username="iriza")
    assert (await client.post("/auth/register", json=account)).status_code == 201
    for name in ("iriza", "iriza@gs-remera.rw"):
        assert (await _try(client, PASSWORD, account=name.replace("i", letter))).status_code == 401


@pytest.mark.usefixtures("login")
async def test_a_thousand_wrong_passwords_for_one_account_lock_nobody_else_out_and_it_only_briefly(
    client: AsyncClient, clock: TurnedClock
) -> None:
    other = registration(email="eric@gs-remera.rw", username="eric.m")
    assert (await client.post("/auth/register", json=other)).status_code == 201
    answers = [(await _try(client)).status_code for _ in range(1000)]

    assert answers == [401] * 5 + [429] * 995
    assert (await _try(client, PASSWORD, account="eric@gs-remera.rw")).status_code == 200
    clock.turn(seconds=1)
    assert (await _try(client, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("login")
async def test_the_accounts_owner_logs_in_from_elsewhere_meanwhile(feature: AuthFeature) -> None:
    for _ in range(5):
        with pytest.raises(InvalidCredentials):
            await feature.service.log_in(EMAIL, "wrong", network="203.0.113.9")
    with pytest.raises(RateLimited):
        await feature.service.log_in(EMAIL, PASSWORD, network="203.0.113.9")

    assert (await feature.service.log_in(EMAIL, PASSWORD, network="203.0.113.10")).user.email == EMAIL
    # Only the network that the owner logged in from is forgotten.
    with pytest.raises(RateLimited):
        await feature.service.log_in(EMAIL, PASSWORD, network="203.0.113.9")


@pytest.mark.usefixtures("login")
async def test_a_whole_network_of_version_6_counts_as_one_address(client: AsyncClient) -> None:
    transport = client._transport
    assert isinstance(transport, ASGITransport)
    statuses = []
    for host in range(1, 7):
        transport.client = (f"2001:db8::{host}", 1234)
        statuses.append((await _try(client)).status_code)
    assert statuses == [401] * 5 + [429]


async def test_a_deactivated_members_right_password_counts_as_a_wrong_one(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    async with database.superuser() as connection:
        await connection.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": login["user"]["user_id"]}
        )
    for _ in range(5):
        assert (await _try(client, PASSWORD)).status_code == 401

    assert (await _try(client, PASSWORD)).status_code == 429


async def test_of_wrong_passwords_at_the_same_moment_five_are_looked_at_and_all_count(
    committed_database: Database, committed_client: AsyncClient
) -> None:
    await committed_client.post("/auth/register", json=registration())
    answers = await asyncio.gather(*(_try(committed_client) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 3
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(text("SELECT failures FROM login_failures")) == 5


async def test_another_process_with_the_same_key_knows_of_the_failures(
    database: SavepointDatabase, signing_key_pem: str, quick_hash: PasswordHash, login: dict[str, Any]
) -> None:
    del login
    settings = AuthSettings(account_key=KEY, refusal_seconds=0)
    one, other = (
        build(database, signing_key_pem=signing_key_pem, password_hash=quick_hash, settings=settings) for _ in range(2)
    )
    for _ in range(5):
        with pytest.raises(InvalidCredentials):
            await one.service.log_in(USERNAME, "wrong")

    with pytest.raises(RateLimited):
        await other.service.log_in(USERNAME, PASSWORD)


async def test_the_table_names_no_account_and_keeps_nothing_that_is_forgotten(
    database: SavepointDatabase, clock: TurnedClock
) -> None:
    back_off = BackOff(KEY, clock=clock)
    for number in range(20):
        async with database.unit_of_work(PLATFORM) as session:
            await back_off.take_attempt(session, f"guess{number}@school.rw", network="203.0.113.9")
    clock.turn(minutes=16)
    async with database.unit_of_work(PLATFORM) as session:
        await back_off.take_attempt(session, EMAIL, network="203.0.113.9")

    async with database.superuser() as connection:
        rows = (await connection.execute(text("SELECT login_failures::text FROM login_failures"))).scalars().all()
    assert len(rows) == 1
    assert EMAIL not in rows[0]


def test_an_account_is_hashed_under_the_installations_key() -> None:
    assert BackOff(KEY).mark(EMAIL) != BackOff(b"other" * 8).mark(EMAIL)
