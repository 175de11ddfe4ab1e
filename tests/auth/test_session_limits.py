"""How often one may register, log in, refresh, and try to set a password."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient, Response

from bwenge.auth.wiring import AuthFeature
from bwenge.kit.http.dependencies import provide
from bwenge.kit.ratelimit import RateLimiter
from tests.support.accounts import EMAIL, PASSWORD, registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, client_of, code_of, feature_app


@pytest.fixture
async def client(database: SavepointDatabase, feature: AuthFeature) -> AsyncIterator[AsyncClient]:
    """With rate limits, unlike the other tests' one."""
    app = feature_app(
        *feature.routers,
        database=database,
        token_verifier=feature.token_verifier,
        services=[*feature.provided],
        membership=feature.service,
    )
    provide(app.state, RateLimiter())
    async with client_of(app) as client:
        yield client


async def _statuses(client: AsyncClient, path: str, times: int, **options: Any) -> tuple[list[int], Response]:
    """Of the calls before the last one, and the last one itself."""
    answers = [await client.post(path, **options) for _ in range(times + 1)]
    return [answer.status_code for answer in answers[:-1]], answers[-1]


def _assert_limited(answer: Response, limit: int) -> None:
    assert code_of(answer) == (429, "rate_limited")
    assert answer.headers["ratelimit-limit"] == str(limit)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("login")
async def test_an_account_logs_in_ten_times_a_minute_and_another_one_still_does(client: AsyncClient) -> None:
    other = registration(email="eric@gs-remera.rw", username="eric.m")
    await client.post("/auth/register", json=other)
    body = {"email": EMAIL, "password": PASSWORD}
    before, last = await _statuses(client, "/auth/login", 10, json=body)

    assert before == [200] * 10
    _assert_limited(last, 10)
    answer = await client.post("/auth/login", json={"email": "eric@gs-remera.rw", "password": PASSWORD})
    assert answer.status_code == 200


async def test_an_address_registers_five_organisations_a_minute(client: AsyncClient) -> None:
    answers = [
        await client.post("/auth/register", json=registration(email=f"o{number}@school.rw", username=None))
        for number in range(6)
    ]

    assert [answer.status_code for answer in answers[:-1]] == [201] * 5
    _assert_limited(answers[-1], 5)


async def test_a_member_refreshes_twenty_times_a_minute(client: AsyncClient, login: dict[str, Any]) -> None:
    before, last = await _statuses(client, "/auth/refresh", 20, json={"refresh_token": login["refresh_token"]})

    assert before == [200] * 20
    _assert_limited(last, 20)


async def test_a_password_is_changed_five_times_a_minute(client: AsyncClient, login: dict[str, Any]) -> None:
    body = {"current_password": "not the password", "new_password": PASSWORD}
    before, last = await _statuses(client, "/auth/password", 5, json=body, headers=bearer(login["access_token"]))

    assert before == [401] * 5
    _assert_limited(last, 5)


@pytest.mark.parametrize(
    ("path", "body", "others", "status"),
    [
        ("/auth/password/forgot", {"email": EMAIL}, {"email": "eric@gs-remera.rw"}, 202),
        ("/auth/password/reset", {"token": "unknown"}, {"token": "another"}, 401),
        ("/auth/password/reset", {"username": "aline", "code": "AAAA"}, {"username": "eric", "code": "AAAA"}, 401),
    ],
)
async def test_a_password_is_reset_five_times_a_minute_and_another_ones_behind_the_same_address_still(
    client: AsyncClient, feature: AuthFeature, path: str, body: dict[str, str], others: dict[str, str], status: int
) -> None:
    new = {} if path.endswith("forgot") else {"new_password": PASSWORD}
    before, last = await _statuses(client, path, 5, json=body | new)

    assert before == [status] * 5
    _assert_limited(last, 5)
    assert (await client.post(path, json=others | new)).status_code == status
    await feature.recovery.finish()


async def test_who_guesses_a_code_elsewhere_keeps_nobody_from_using_it(
    client: AsyncClient,
) -> None:
    transport = client._transport
    assert isinstance(transport, ASGITransport)
    body = {"username": EMAIL, "code": "AAAAAAAA", "new_password": PASSWORD}
    transport.client = ("203.0.113.9", 1234)
    for _ in range(10):
        await client.post("/auth/password/reset", json=body)
    transport.client = ("203.0.113.10", 1234)

    assert (await client.post("/auth/password/reset", json=body)).status_code != 429
