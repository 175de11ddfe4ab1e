"""A deletion beside what members do at the same moment, on the product's own pools."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from httpx2 import Response
from sqlalchemy import select

from bwenge.auth import member_queries, repository
from bwenge.auth.models import User
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.accounts import EMAIL, PASSWORD, registration
from tests.support.application import Application, open_application
from tests.support.databases import wait_for_a_waiting_lock
from tests.support.feature_app import bearer

ACTS: Final[dict[str, Callable[[dict[str, Any]], tuple[str, dict[str, str]]]]] = {
    "lock_user": lambda _login: ("/auth/login", {"identifier": EMAIL, "password": PASSWORD}),
    "lock_user_of_token": lambda login: ("/auth/refresh", {"refresh_token": login["refresh_token"]}),
}
"""By what it locks its member with, a request that goes on to add rows of the organisation."""


@pytest.fixture
async def application(committed_database: Database, tmp_path: Path) -> AsyncIterator[Application]:
    async with open_application(committed_database, tmp_path) as application:
        yield application


@pytest.fixture
async def owner(application: Application) -> dict[str, Any]:
    """The answer to a registration."""
    login: dict[str, Any] = (await application.client.post("/auth/register", json=registration())).json()
    return login


def begin_deletion(application: Application, owner: dict[str, Any]) -> asyncio.Task[UUID]:
    user = owner["user"]
    principal = Principal(user_id=UUID(user["user_id"]), org_id=UUID(user["org_id"]), role=Role.OWNER)
    return asyncio.create_task(application.platform.custody.erasure.request(principal))


async def begin_deletion_within(
    application: Application, owner: dict[str, Any], monkeypatch: pytest.MonkeyPatch, lock: str
) -> list[asyncio.Task[UUID]]:
    """Begin it as soon as a member is locked, and let who locked the member go on when the deletion waits for it."""
    begun: list[asyncio.Task[UUID]] = []
    locked = getattr(repository, lock)

    async def lock_and_wait(*args: Any) -> User | None:
        user: User | None = await locked(*args)
        if not begun:
            begun.append(begin_deletion(application, owner))
            await wait_for_a_waiting_lock(application.platform.resources.database)
        return user

    monkeypatch.setattr(repository, lock, lock_and_wait)
    return begun


async def is_active(database: Database) -> set[bool]:
    async with database.unit_of_work(PLATFORM) as session:
        return set(await session.scalars(select(User.is_active)))


@pytest.mark.parametrize("lock", ACTS)
async def test_a_session_that_begins_beside_a_deletion_stands_in_nobodys_way(
    application: Application, owner: dict[str, Any], monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    begun = await begin_deletion_within(application, owner, monkeypatch, lock)
    path, body = ACTS[lock](owner)

    answer = await application.client.post(path, json=body)

    assert answer.status_code == 200, answer.text
    [deletion] = begun
    assert isinstance(await deletion, UUID)
    assert await is_active(application.platform.resources.database) == {False}
    me = await application.client.get("/users/me", headers=bearer(answer.json()["access_token"]))
    assert me.status_code == 401


async def test_a_password_that_is_changed_beside_a_deletion_stands_in_nobodys_way(
    application: Application, owner: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await begin_deletion_within(application, owner, monkeypatch, "lock_user")
    answer: Response = await application.client.post(
        "/auth/password",
        headers=bearer(owner["access_token"]),
        json={"current_password": PASSWORD, "new_password": "igiti cy'umuvumu"},
    )
    assert answer.status_code == 204, answer.text
    [deletion] = begun
    assert isinstance(await deletion, UUID)


async def test_a_deletion_waits_for_who_is_joining_and_closes_them_out(
    application: Application, owner: dict[str, Any]
) -> None:
    database, org_id = application.platform.resources.database, UUID(owner["user"]["org_id"])
    async with database.unit_of_work(PLATFORM) as session:
        await member_queries.lock_organization(session, org_id)
        deletion = begin_deletion(application, owner)
        await wait_for_a_waiting_lock(database)
        user = User(id=new_id(), org_id=org_id, name="K", username="keza.m", password_hash="-", role="user")
        await repository.add_user(session, user)
    assert isinstance(await deletion, UUID)
    assert await is_active(database) == {False}
