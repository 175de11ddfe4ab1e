"""An API key that is confined to some personas knows of no other one, nor of its material."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from bwenge.kit.identity import Role
from tests.support.application import Application, Person
from tests.support.furnished import TEXT, add_conversation


@dataclass
class Confined:
    application: Application
    key: Person
    persona: UUID
    other: UUID
    source: UUID
    other_source: UUID
    session: UUID
    other_session: UUID

    async def call(self, method: str, path: str, **options: Any) -> Any:
        return await self.application.client.request(method, path, headers=self.key.headers, **options)


@pytest.fixture
async def confined(application: Application) -> Confined:
    owner = await application.register()
    personas = [await application.create_persona(owner) for _ in range(2)]
    sources = [await application.add_document(owner, persona_id, TEXT) for persona_id in personas]
    sessions = [await add_conversation(application, owner, persona_id) for persona_id in personas]
    key = await application.make_key(owner, Role.ADMIN, persona_ids=[str(personas[0])])
    return Confined(application, key, *personas, *sources, *sessions)


async def test_lists_hold_the_key_s_own_alone(confined: Confined) -> None:
    for path, name, expected in (
        ("/personas", "persona_id", confined.persona),
        ("/knowledge/sources", "source_id", confined.source),
        ("/sessions", "session_id", confined.session),
    ):
        answer = await confined.call("GET", path)
        assert [item[name] for item in answer.json()["items"]] == [str(expected)], path


async def test_every_door_of_its_persona_is_open_and_of_another_as_unknown(confined: Confined) -> None:
    group_id = await confined.application.create_group(confined.key)
    for method, path, kind, body in (
        ("GET", "/personas/{}", "persona", None),
        ("POST", "/personas/{}/settings", "persona", {"top_k": 3}),
        ("POST", "/ai/respond", "persona", {"persona_id": "{}", "user_message": "Hello"}),
        ("GET", "/knowledge/sources?persona_id={}", "persona", None),
        ("POST", "/knowledge/search", "persona", {"persona_id": "{}", "query": "fare"}),
        ("GET", "/knowledge/{}/status", "source", None),
        ("GET", "/knowledge/{}/chunks", "source", None),
        ("GET", "/knowledge/{}/file", "source", None),
        ("GET", "/sessions/{}/messages", "session", None),
        ("POST", f"/orgs/{confined.key.org_id}/groups/{group_id}/personas", "persona", {"persona_id": "{}"}),
    ):
        own, other = getattr(confined, kind), getattr(confined, "other" if kind == "persona" else f"other_{kind}")
        statuses = [(await _put(confined, method, path, body, id_)).status_code for id_ in (own, other, uuid4())]
        assert statuses[0] in {200, 201}, path
        assert statuses[1:] == [404, 404], path


async def test_it_uploads_to_its_own_persona_alone_and_deletes_nothing_of_another(confined: Confined) -> None:
    for persona_id, status in ((confined.persona, 202), (confined.other, 404)):
        answer = await confined.application.upload(confined.key, persona_id, TEXT + b" More.")
        assert answer.status_code == status

    for path in (
        f"/personas/{confined.other}",
        f"/knowledge/{confined.other_source}",
        f"/sessions/{confined.other_session}",
    ):
        assert (await confined.call("DELETE", path)).status_code == 404, path
    for path in (f"/knowledge/{confined.source}", f"/sessions/{confined.session}", f"/personas/{confined.persona}"):
        assert (await confined.call("DELETE", path)).status_code == 204, path


async def _put(confined: Confined, method: str, path: str, body: dict[str, Any] | None, value: UUID) -> Any:
    filled = None if body is None else json.loads(json.dumps(body).replace("{}", str(value)))
    return await confined.call(method, path.replace("{}", str(value)), json=filled)
