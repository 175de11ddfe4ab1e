"""POST /auth/register with an `Idempotency-Key`."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response
from sqlalchemy import func, select, table

from bwenge.auth.erasure import ERASE
from bwenge.auth.models import RefreshToken
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.idempotency.models import IdempotencyKey
from tests.support.accounts import registration
from tests.support.application import PASSWORD, Application
from tests.support.custody import do_jobs
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, code_of, feature_app


async def register(client: AsyncClient, *, key: str = "4b0e", **changes: Any) -> Response:
    return await client.post("/auth/register", headers={"Idempotency-Key": key}, json=registration(**changes))


async def count(database: SavepointDatabase, name: str) -> int:
    async with database.superuser() as connection:
        return int((await connection.execute(select(func.count()).select_from(table(name)))).scalar_one())


async def test_a_repeated_registration_is_answered_with_the_same_tokens(
    client: AsyncClient, database: SavepointDatabase
) -> None:
    first, again = await register(client), await register(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert (first.headers["cache-control"], again.headers["cache-control"]) == ("no-store", "no-store")
    assert again.headers["idempotency-replayed"] == "true"
    assert await count(database, "organizations") == await count(database, "refresh_tokens") == 1


async def test_the_tokens_of_a_repeated_answer_work(client: AsyncClient) -> None:
    await register(client)
    login = (await register(client)).json()
    assert (await client.get("/users/me", headers=bearer(login["access_token"]))).status_code == 200
    refreshed = await client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert refreshed.status_code == 200


async def test_twins_at_once_open_one_account_and_get_one_answer(committed_client: AsyncClient) -> None:
    answers = await asyncio.gather(*(register(committed_client) for _ in range(10)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {None: 1, "true": 9}


async def test_a_repeated_registration_with_another_password_learns_nothing(client: AsyncClient) -> None:
    await register(client)
    assert code_of(await register(client, password="gicumbi-gicumbi")) == (409, "idempotency_key_reused")


@pytest.mark.usefixtures("login")
async def test_a_refused_registration_is_not_kept(client: AsyncClient) -> None:
    assert code_of(await register(client)) == (409, "email_taken")
    other = await register(client, email="other@gs-kimironko.rw", username="other.one")
    assert other.status_code == 201


async def test_the_tokens_cannot_be_read_in_the_table(client: AsyncClient, database: SavepointDatabase) -> None:
    login = (await register(client)).json()
    async with database.superuser() as connection:
        row = (await connection.execute(select(IdempotencyKey.__table__))).one()
        stored = (await connection.execute(select(RefreshToken.token_hash))).scalar_one()
    for secret in (login["access_token"].encode(), login["refresh_token"].encode(), stored):
        assert all(secret not in column for column in row if isinstance(column, bytes))


@pytest.fixture
def app(database: SavepointDatabase, feature: AuthFeature) -> FastAPI:
    return feature_app(
        *feature.routers, database=database, token_verifier=feature.token_verifier, services=[*feature.provided]
    )


async def register_from(app: FastAPI, address: str, **changes: Any) -> Response:
    transport = ASGITransport(app, client=(address, 40000))
    async with AsyncClient(transport=transport, base_url="http://bwenge.test") as client:
        return await register(client, **changes)


async def test_the_same_key_from_another_address_is_another_key(app: FastAPI) -> None:
    first = await register_from(app, "197.243.0.1")
    assert code_of(await register_from(app, "197.243.0.2")) == (409, "email_taken")
    assert (await register_from(app, "197.243.0.1")).content == first.content


async def test_one_subscribers_addresses_are_one(app: FastAPI) -> None:
    first = await register_from(app, "2c0f:eb68:1::1")
    assert (await register_from(app, "2c0f:eb68:1::2")).content == first.content


@pytest.mark.parametrize("by_member", [False, True])
async def test_after_the_erasure_of_the_organisation_it_made_a_registration_is_done_anew(
    application: Application, *, by_member: bool
) -> None:
    headers = {"Idempotency-Key": "4b0e"} | ((await application.register()).headers if by_member else {})
    first = await application.client.post("/auth/register", headers=headers, json=registration())
    assert first.status_code == 201
    await erase(application, first.json())
    again = await application.client.post("/auth/register", headers=headers, json=registration())
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (201, None)
    assert again.json()["user"]["org_id"] != first.json()["user"]["org_id"]
    me = await application.client.get("/users/me", headers=bearer(again.json()["access_token"]))
    assert me.status_code == 200


async def test_after_the_erasure_of_the_organisation_it_joined_a_registration_is_done_anew(
    application: Application,
) -> None:
    founded = (await application.client.post("/auth/register", json=registration())).json()
    body = {
        "name": "Keza",
        "username": "keza.m",
        "password": PASSWORD,
        "join_token": await join_token(application, founded),
    }
    answers = [
        await application.client.post("/auth/register", headers={"Idempotency-Key": "4b0e"}, json=body)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].headers["idempotency-replayed"] == "true"
    await erase(application, founded)
    again = await application.client.post("/auth/register", headers={"Idempotency-Key": "4b0e"}, json=body)
    assert code_of(again) == (422, "invalid_invitation")


async def test_a_kept_registration_is_the_organisations(application: Application, database: SavepointDatabase) -> None:
    answer = await register(application.client)
    async with database.superuser() as connection:
        owners = (await connection.execute(select(IdempotencyKey.org_id))).scalars().all()
    assert [str(owner) for owner in owners] == [answer.json()["user"]["org_id"]]


async def join_token(application: Application, login: dict[str, Any]) -> str:
    answer = await application.client.post(
        f"/orgs/{login['user']['org_id']}/join-links",
        headers=bearer(login["access_token"]),
        json={"max_uses": 2, "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    )
    token: str = answer.json()["join_token"]
    return token


async def erase(application: Application, login: dict[str, Any]) -> None:
    answer = await application.client.delete(f"/orgs/{login['user']['org_id']}", headers=bearer(login["access_token"]))
    assert answer.status_code == 202
    assert await do_jobs(application, ERASE) == 1
