"""POST /auth/password."""

from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import text

from bwenge.auth.errors import InvalidCredentials
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.identity import Principal, Role
from tests.support.accounts import EMAIL, PASSWORD
from tests.support.audit import audited
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, code_of

NEW = "inyoni zo mu gishanga"


async def _change(client: AsyncClient, login: dict[str, Any], current: str = PASSWORD, new: str = NEW) -> Response:
    return await client.post(
        "/auth/password",
        headers=bearer(login["access_token"]),
        json={"current_password": current, "new_password": new},
    )


async def _log_in(client: AsyncClient, password: str) -> Response:
    return await client.post("/auth/login", json={"email": EMAIL, "password": password})


async def _refresh(client: AsyncClient, login: dict[str, Any]) -> int:
    return (await client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})).status_code


async def test_from_then_on_the_new_password_logs_in_and_the_old_one_does_not(
    client: AsyncClient, login: dict[str, Any]
) -> None:
    answer = await _change(client, login)

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await _log_in(client, PASSWORD)).status_code == 401
    assert (await _log_in(client, NEW)).status_code == 200


async def test_every_other_session_ends_and_the_callers_own_goes_on(client: AsyncClient, login: dict[str, Any]) -> None:
    others = [(await _log_in(client, PASSWORD)).json() for _ in range(2)]
    await _change(client, others[0])

    assert [await _refresh(client, session) for session in (login, *others)] == [401, 200, 401]


async def test_a_wrong_current_password_changes_nothing_and_is_noted(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    answer = await _change(client, login, current="not the password")

    assert code_of(answer) == (401, "invalid_credentials")
    assert (await _log_in(client, PASSWORD)).status_code == 200
    [noted] = await audited(database, action="password.change_refused")
    assert (noted.org_id, noted.actor_id) == (login["user"]["org_id"], login["user"]["user_id"])


async def test_a_change_is_noted_without_a_password(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    await _change(client, login)

    [noted] = await audited(database, action="password.changed")
    assert (noted.actor_id, noted.target_id, noted.detail) == (*[login["user"]["user_id"]] * 2, {})


@pytest.mark.parametrize("new", ["password1", "Aline.Uwase1"])
async def test_an_easily_guessed_password_is_refused_by_name(
    client: AsyncClient, login: dict[str, Any], new: str
) -> None:
    answer = await _change(client, login, new=new)

    assert code_of(answer) == (422, "invalid")
    assert [(finding["field"], finding["code"]) for finding in answer.json()["errors"]] == [
        ("new_password", "too_common")
    ]
    assert (await _log_in(client, PASSWORD)).status_code == 200


async def test_a_password_that_somebody_else_changed_meanwhile_is_not_overwritten(
    database: SavepointDatabase, feature: AuthFeature, login: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = feature.recovery._passwords
    verify = passwords.verify

    async def verify_while_it_changes(password: str, password_hash: str | None) -> Any:
        async with database.superuser() as connection:
            await connection.execute(text("UPDATE users SET password_hash = 'changed'"))
        return await verify(password, password_hash)

    monkeypatch.setattr(passwords, "verify", verify_while_it_changes)
    user = login["user"]
    caller = Principal(user_id=user["user_id"], org_id=user["org_id"], role=Role.OWNER)

    with pytest.raises(InvalidCredentials):
        await feature.recovery.change(caller, PASSWORD, NEW)
    async with database.superuser() as connection:
        assert (await connection.execute(text("SELECT password_hash FROM users"))).scalar_one() == "changed"


async def test_a_deactivated_member_changes_nothing(
    client: AsyncClient, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false"))

    assert code_of(await _change(client, login)) == (401, "unauthenticated")


async def test_a_token_is_needed(client: AsyncClient) -> None:
    answer = await client.post("/auth/password", json={"current_password": PASSWORD, "new_password": NEW})

    assert code_of(answer) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"current_password": PASSWORD},
        {"current_password": PASSWORD, "new_password": "1234567"},
        {"current_password": PASSWORD, "new_password": "x" * 129},
        {"current_password": "", "new_password": NEW},
    ],
)
async def test_bad_fields_are_refused(client: AsyncClient, login: dict[str, Any], body: dict[str, str]) -> None:
    answer = await client.post("/auth/password", headers=bearer(login["access_token"]), json=body)

    assert code_of(answer) == (422, "invalid")
