"""POST /auth/login."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import text
from structlog.testing import capture_logs

from bwenge.auth.errors import InvalidCredentials
from bwenge.auth.wiring import AuthFeature, build
from tests.support.accounts import EMAIL, PASSWORD, USERNAME
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of


async def _deactivate(database: SavepointDatabase, user_id: str) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": user_id})


async def _password_hash(database: SavepointDatabase) -> str:
    async with database.superuser() as connection:
        return str((await connection.execute(text("SELECT password_hash FROM users"))).scalar_one())


@pytest.mark.parametrize(
    "identifier",
    [
        {"email": EMAIL},
        {"email": EMAIL.upper()},
        {"username": USERNAME},
        {"username": USERNAME.lower()},
        {"identifier": EMAIL},
        {"identifier": USERNAME},
    ],
)
async def test_an_account_is_found_by_email_address_and_by_username(
    client: AsyncClient, login: dict[str, Any], identifier: dict[str, str]
) -> None:
    answer = await client.post("/auth/login", json={**identifier, "password": PASSWORD})

    assert answer.status_code == 200
    assert answer.json()["user"] == login["user"]


async def test_a_username_is_kept_as_it_was_written(login: dict[str, Any]) -> None:
    assert login["user"]["username"] == USERNAME


@pytest.mark.usefixtures("login")
async def test_an_unknown_account_and_a_wrong_password_get_one_answer(client: AsyncClient) -> None:
    unknown = await client.post("/auth/login", json={"email": "nobody@gs-kimironko.rw", "password": PASSWORD})
    wrong = await client.post("/auth/login", json={"email": EMAIL, "password": "not the password"})

    assert code_of(unknown) == code_of(wrong) == (401, "invalid_credentials")
    assert {**unknown.json(), "request_id": ""} == {**wrong.json(), "request_id": ""}


@pytest.mark.usefixtures("login")
async def test_an_unknown_account_costs_one_verification_as_a_known_one_does(
    client: AsyncClient, feature: AuthFeature, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = feature.service._passwords._hasher
    verify = hasher.verify_and_update
    parameters: list[str] = []

    def counted(password: str, password_hash: str) -> tuple[bool, str | None]:
        parameters.append(password_hash.rsplit("$", 2)[0])
        return verify(password, password_hash)

    monkeypatch.setattr(hasher, "verify_and_update", counted)
    for email in (EMAIL, "nobody@gs-kimironko.rw"):
        await client.post("/auth/login", json={"email": email, "password": "not the password"})

    known, unknown = parameters
    assert known == unknown


async def test_the_stand_in_for_unknown_accounts_has_no_password(client: AsyncClient) -> None:
    password = "the hash that stands in for accounts that do not exist"
    answer = await client.post("/auth/login", json={"email": "nobody@gs-kimironko.rw", "password": password})

    assert answer.status_code == 401


async def test_a_deactivated_member_cannot_log_in(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    await _deactivate(database, login["user"]["user_id"])

    answer = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})

    assert code_of(answer) == (401, "invalid_credentials")


@pytest.mark.usefixtures("login")
async def test_a_password_changed_while_it_is_checked_does_not_log_in(
    database: SavepointDatabase, feature: AuthFeature, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = feature.service._passwords
    verify = passwords.verify

    async def verify_while_it_changes(password: str, password_hash: str | None) -> Any:
        async with database.superuser() as connection:
            await connection.execute(text("UPDATE users SET password_hash = 'changed'"))
        return await verify(password, password_hash)

    monkeypatch.setattr(passwords, "verify", verify_while_it_changes)

    with pytest.raises(InvalidCredentials):
        await feature.service.log_in(EMAIL, PASSWORD)


@pytest.mark.usefixtures("login")
async def test_login_brings_an_older_hash_up_to_todays_parameters(
    database: SavepointDatabase, signing_key_pem: str
) -> None:
    stronger = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=8, parallelism=1),))
    feature = build(database, signing_key_pem=signing_key_pem, password_hash=stronger)

    await feature.service.log_in(EMAIL, PASSWORD)

    assert "t=2" in await _password_hash(database)
    assert (await feature.service.log_in(EMAIL, PASSWORD)).user.email == EMAIL


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"password": PASSWORD}, id="no identifier"),
        pytest.param({"email": EMAIL, "username": USERNAME, "password": PASSWORD}, id="two identifiers"),
        pytest.param({"email": EMAIL}, id="no password"),
        pytest.param({"email": EMAIL, "password": "x" * 129}, id="a long password"),
        pytest.param({"email": "x" * 255, "password": PASSWORD}, id="a long identifier"),
    ],
)
async def test_bad_fields_are_refused(client: AsyncClient, body: dict[str, str]) -> None:
    answer = await client.post("/auth/login", json=body)

    assert code_of(answer) == (422, "invalid")


@pytest.mark.usefixtures("login")
async def test_the_log_of_a_refused_login_names_neither_account_nor_password(client: AsyncClient) -> None:
    with capture_logs() as records:
        await client.post("/auth/login", json={"email": EMAIL, "password": "not the password"})

    assert "login_refused" in {record["event"] for record in records}
    assert EMAIL not in str(records)
    assert "not the password" not in str(records)


async def test_a_lone_surrogate_is_refused(client: AsyncClient) -> None:
    """JSON can write one, and neither UTF-8 nor PostgreSQL can."""
    body = r'{"identifier": "\ud800", "password": "password"}'

    answer = await client.post("/auth/login", content=body, headers={"Content-Type": "application/json"})

    assert code_of(answer) == (422, "invalid")
