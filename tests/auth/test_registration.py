"""POST /auth/register."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import func, select, table, text

from bwenge.auth.wiring import AuthFeature
from bwenge.kit.identity import Principal, Role
from tests.support.accounts import EMAIL, PASSWORD, USERNAME, registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of


async def _count(database: SavepointDatabase, name: str) -> int:
    async with database.superuser() as connection:
        return int((await connection.execute(select(func.count()).select_from(table(name)))).scalar_one())


async def test_registration_answers_201_as_login_does(client: AsyncClient) -> None:
    registered = await client.post("/auth/register", json=registration())
    logged_in = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})

    assert (registered.status_code, logged_in.status_code) == (201, 200)
    assert registered.json().keys() == logged_in.json().keys()
    assert registered.json()["user"] == logged_in.json()["user"]


async def test_an_answer_has_the_fields_of_the_contract(login: dict[str, Any]) -> None:
    assert login.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (login["token_type"], login["expires_in"]) == ("bearer", 1800)
    assert login["user"].keys() == {
        "user_id",
        "name",
        "email",
        "username",
        "role",
        "is_active",
        "org_id",
        "language",
        "created_at",
    }
    assert login["user"]["created_at"].endswith("Z")


async def test_who_registers_an_organisation_owns_it(login: dict[str, Any], feature: AuthFeature) -> None:
    user = login["user"]

    assert (user["role"], user["is_active"], user["language"]) == ("owner", True, "en")
    caller = feature.token_verifier.verify(login["access_token"])
    assert caller == Principal(
        user_id=UUID(user["user_id"]),
        org_id=UUID(user["org_id"]),
        role=Role.OWNER,
        session_id=caller.session_id,
    )


async def test_each_registration_makes_an_organisation_of_its_own(client: AsyncClient, login: dict[str, Any]) -> None:
    second = await client.post("/auth/register", json=registration(email="eric@gs-remera.rw", username=None))

    assert second.json()["user"]["org_id"] != login["user"]["org_id"]
    assert second.json()["user"]["username"] is None


async def test_an_answer_with_tokens_is_never_cached(client: AsyncClient) -> None:
    answer = await client.post("/auth/register", json=registration())

    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.usefixtures("login")
async def test_the_stored_password_is_an_argon2id_hash(database: SavepointDatabase) -> None:
    async with database.superuser() as connection:
        stored = (await connection.execute(text("SELECT password_hash FROM users"))).scalar_one()

    assert stored.startswith("$argon2id$")


@pytest.mark.parametrize("email", [EMAIL, EMAIL.upper(), f"  {EMAIL} "])
@pytest.mark.usefixtures("login")
async def test_an_email_address_is_taken_in_any_case(client: AsyncClient, email: str) -> None:
    answer = await client.post("/auth/register", json=registration(email=email, username="someone.else"))

    assert code_of(answer) == (409, "email_taken")


@pytest.mark.usefixtures("login")
async def test_a_username_is_taken_in_any_case(client: AsyncClient) -> None:
    answer = await client.post(
        "/auth/register", json=registration(email="other@gs-kimironko.rw", username=USERNAME.upper())
    )

    assert code_of(answer) == (409, "username_taken")


@pytest.mark.usefixtures("login")
async def test_a_refused_registration_leaves_no_organisation(client: AsyncClient, database: SavepointDatabase) -> None:
    await client.post("/auth/register", json=registration())

    assert await _count(database, "organizations") == await _count(database, "users") == 1


@pytest.mark.usefixtures("committed_database")
async def test_of_registrations_at_the_same_moment_one_wins(committed_client: AsyncClient) -> None:
    answers = await asyncio.gather(*(committed_client.post("/auth/register", json=registration()) for _ in range(4)))

    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 3}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"email_taken"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"org_name": None}, id="no way in"),
        pytest.param({"join_token": "abc"}, id="two ways in"),
        pytest.param({"email": None}, id="an owner without an email address"),
        pytest.param({"email": None, "username": None}, id="no identifier"),
        pytest.param({"email": "aline"}, id="no email address"),
        pytest.param({"username": "a@b.rw"}, id="a username with an @"),
        pytest.param({"password": "1234567"}, id="a password of 7 characters"),
        pytest.param({"password": "x" * 129}, id="a password of 129 characters"),
        pytest.param({"password": "nul\x00nul\x00nul"}, id="NUL"),
        pytest.param({"name": " "}, id="an empty name"),
        pytest.param({"name": "x" * 121}, id="a long name"),
        pytest.param({"name": "Aline\nUwase"}, id="a name of two lines"),
        pytest.param({"org_name": "\u202egnp.loohcS"}, id="a name that reads backwards"),
        pytest.param({"role": "operator"}, id="an unknown field"),
    ],
)
async def test_bad_fields_are_refused(
    client: AsyncClient, database: SavepointDatabase, changes: dict[str, Any]
) -> None:
    answer = await client.post("/auth/register", json=registration(**changes))

    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"]
    assert await _count(database, "users") == 0


async def test_a_refusal_does_not_repeat_the_password(client: AsyncClient) -> None:
    answer = await client.post("/auth/register", json=registration(password="secret!"))

    assert answer.status_code == 422
    assert "secret!" not in answer.text


async def test_the_spaces_around_a_password_count(client: AsyncClient) -> None:
    await client.post("/auth/register", json=registration(password=" spaces kept "))

    answer = await client.post("/auth/login", json={"email": EMAIL, "password": "spaces kept"})

    assert answer.status_code == 401


@pytest.mark.parametrize("password", ["x" * 8, "x" * 128, " spaces kept ", "ijambo ry’ibanga 🦜"])
async def test_a_password_logs_in_exactly_as_it_was_given(client: AsyncClient, password: str) -> None:
    await client.post("/auth/register", json=registration(password=password))

    right = await client.post("/auth/login", json={"email": EMAIL, "password": password})
    other = await client.post("/auth/login", json={"email": EMAIL, "password": password.strip()[1:]})

    assert (right.status_code, other.status_code) == (200, 401)


@pytest.mark.timeout(30)  # composing so many marks takes minutes
@pytest.mark.parametrize("field", ["name", "org_name"])
async def test_a_name_of_combining_marks_is_refused_before_it_is_composed(client: AsyncClient, field: str) -> None:
    refused = await client.post("/auth/register", json=registration(**{field: "\u0300\u0316" * 250_000}))

    assert code_of(refused) == (422, "invalid")
    assert [finding["code"] for finding in refused.json()["errors"]] == ["string_too_long"]
