"""A session that was ended gives no more access, whatever its access token's time says."""

import asyncio
import json
from typing import Any

import pytest
from httpx2 import AsyncClient
from websockets.asyncio.client import connect

from bwenge.kit.db import Database
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.chat.conftest import served
from tests.support.application import PASSWORD, Application, Person
from tests.support.feature_app import bearer, code_of

NEW = "inyoni zo mu gishanga"


async def log_in(client: AsyncClient, email: str) -> dict[str, Any]:
    answer = await client.post("/auth/login", json={"identifier": email, "password": PASSWORD})
    assert answer.status_code == 200
    login: dict[str, Any] = answer.json()
    return login


async def email_of(application: Application, person: Person) -> str:
    return str((await application.client.get("/users/me", headers=person.headers)).json()["email"])


@pytest.fixture
async def sessions(application: Application) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two of one owner, in two places."""
    email = await email_of(application, await application.register())
    return await log_in(application.client, email), await log_in(application.client, email)


async def test_a_logout_ends_its_own_access_token_at_once_and_no_other(
    application: Application, sessions: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    client, (here, there) = application.client, sessions
    ended = await client.post("/auth/logout", json={"refresh_token": here["refresh_token"]})

    assert ended.status_code == 204
    assert code_of(await client.get("/users/me", headers=bearer(here["access_token"]))) == (401, "unauthenticated")
    assert (await client.get("/users/me", headers=bearer(there["access_token"]))).status_code == 200


async def test_who_changed_the_password_has_ended_what_others_could_still_do(
    application: Application, sessions: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    client, (own, stolen) = application.client, sessions
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert (await client.post("/auth/password", headers=bearer(own["access_token"]), json=body)).status_code == 204

    key = {"name": "For later", "role": "owner"}
    path = f"/orgs/{own['user']['org_id']}/api-keys"
    assert code_of(await client.post(path, headers=bearer(stolen["access_token"]), json=key)) == (
        401,
        "unauthenticated",
    )
    assert (await client.post(path, headers=bearer(own["access_token"]), json=key)).status_code == 201


async def test_a_refreshed_session_goes_on_with_older_access_tokens(
    application: Application, sessions: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    here, _ = sessions
    refreshed = await application.client.post("/auth/refresh", json={"refresh_token": here["refresh_token"]})

    for login in (here, refreshed.json()):
        answer = await application.client.get("/users/me", headers=bearer(login["access_token"]))
        assert answer.status_code == 200


async def test_an_operators_session_ends_too(application: Application) -> None:
    headers = await application.add_operator()
    assert (await application.client.post("/auth/logout", headers=headers)).status_code == 204

    assert code_of(await application.client.get("/operator/orgs", headers=headers)) == (401, "unauthenticated")


async def test_no_question_is_taken_over_a_socket_of_an_ended_session(application: Application) -> None:
    owner = await application.register()
    learner = await application.add_member(owner.org_id, Role.USER)
    persona_id = await application.create_persona(owner)
    token = learner.headers["Authorization"].removeprefix("Bearer ")
    async with (
        served(application.app) as address,
        connect(f"ws://{address}/ws/chat?persona_id={persona_id}&token={token}", proxy=None) as socket,
    ):
        assert json.loads(await socket.recv())["type"] == "session_info"
        await application.client.post("/auth/logout", headers=learner.headers)
        question = {"type": "user_message", "client_msg_id": str(new_id()), "content": "The fare?"}
        await socket.send(json.dumps(question))
        async with asyncio.timeout(30):
            await socket.wait_closed()
        assert socket.close_code == 4403
    await application.platform.chat.drain()


async def test_a_caller_who_is_looked_at_again_is_seen_as_they_stand_by_then(
    committed_application: Application, committed_database: Database
) -> None:
    """Who waited for a lock asks again, in a session that has met the caller before."""
    owner = await committed_application.register()
    expert = await committed_application.add_member(owner.org_id, Role.EXPERT)
    caller = Principal(user_id=expert.user_id, org_id=expert.org_id, role=Role.EXPERT)
    members = committed_application.platform.auth.service
    async with committed_database.unit_of_work(owner.org_id) as session:
        met = await members.profile(session, caller)
        path = f"/orgs/{owner.org_id}/members/{expert.user_id}"
        changed = await committed_application.client.patch(path, headers=owner.headers, json={"role": "user"})
        assert (changed.status_code, met.role) == (200, "expert")

        with pytest.raises(Unauthenticated):
            await members.require_active(session, caller)
