"""API keys on the chat socket of the whole application."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from httpx2 import QueryParams
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bwenge.kit.db import Database
from bwenge.kit.identity import Role
from tests.chat.conftest import served
from tests.support.application import Application, Person, open_application


@dataclass(frozen=True)
class Served:
    application: Application
    address: str
    owner: Person
    persona_id: UUID

    def socket(self, *, headers: dict[str, str] | None = None, **query: str) -> connect:
        parameters = QueryParams({"persona_id": str(self.persona_id), **query})
        return connect(f"ws://{self.address}/ws/chat?{parameters}", additional_headers=headers or {}, proxy=None)

    async def delete_keys(self) -> None:
        path = f"/orgs/{self.owner.org_id}/api-keys"
        listed = await self.application.client.get(path, headers=self.owner.headers)
        for item in listed.json()["items"]:
            await self.application.client.delete(f"{path}/{item['key_id']}", headers=self.owner.headers)


@pytest.fixture
async def platform(committed_database: Database, tmp_path: Path) -> AsyncIterator[Served]:
    async with open_application(committed_database, tmp_path) as application, served(application.app) as address:
        owner = await application.register()
        yield Served(application, address, owner, await application.create_persona(owner))


def ask(client_msg_id: int) -> str:
    return json.dumps({"type": "user_message", "content": "?", "client_msg_id": str(UUID(int=client_msg_id))})


async def until(connection: Any, kind: str) -> None:
    while json.loads(await connection.recv())["type"] != kind:
        pass


@pytest.mark.parametrize("where", ["header", "query"])
async def test_a_key_opens_a_socket_for_its_maker(platform: Served, where: str) -> None:
    key = await platform.application.make_key(platform.owner, Role.USER)
    token = key.headers["Authorization"].split()[1]
    opened = platform.socket(headers=key.headers) if where == "header" else platform.socket(token=token)

    async with opened as connection:
        await connection.send(ask(1))
        await until(connection, "turn_finished")

    sessions = await platform.application.client.get("/sessions", headers=platform.owner.headers)
    assert len(sessions.json()["items"]) == 1


async def test_a_confined_key_opens_a_socket_to_its_personas_alone(platform: Served) -> None:
    other = await platform.application.create_persona(platform.owner)
    key = await platform.application.make_key(platform.owner, Role.USER, persona_ids=[str(platform.persona_id)])

    async with platform.socket(headers=key.headers) as connection:
        await connection.send(ask(1))
        await until(connection, "turn_finished")
    with pytest.raises(InvalidStatus) as refused:
        await platform.socket(headers=key.headers, persona_id=str(other))

    assert refused.value.response.status_code == 404


async def test_an_unknown_key_is_refused_before_the_handshake(platform: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await platform.socket(token=f"bwk_Abcd1234_{'x' * 43}")

    assert refused.value.response.status_code == 401


async def test_an_operator_is_refused_before_the_handshake(platform: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await platform.socket(headers=await platform.application.add_operator())

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(("asked_before", "code"), [(False, 4401), (True, 4403)])
async def test_a_deleted_key_asks_nothing_more_on_an_open_socket(
    platform: Served, code: int, *, asked_before: bool
) -> None:
    key = await platform.application.make_key(platform.owner)
    async with platform.socket(headers=key.headers) as connection:
        await until(connection, "session_info")
        if asked_before:
            await connection.send(ask(1))
            await until(connection, "turn_finished")
        await platform.delete_keys()

        await connection.send(ask(2))

        await connection.wait_closed()
        assert connection.close_code == code
