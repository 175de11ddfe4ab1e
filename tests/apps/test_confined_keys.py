"""An API key that is confined to some personas knows of no other one, nor of its material, and calls nothing else."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from bwenge.kit.errors import NotFound
from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Role
from tests.support.application import Application, Person
from tests.support.feature_app import code_of
from tests.support.furnished import TEXT, add_conversation
from tests.support.routes import routes_of

OWN: Final = "own"
"""Stands for the persona that the key is confined to."""

OPEN: Final[dict[tuple[str, str], Role]] = {
    ("GET", "/personas"): Role.USER,
    ("GET", "/personas/{persona_id}"): Role.USER,
    ("POST", "/ai/respond"): Role.USER,
    ("GET", "/sessions"): Role.USER,
    ("GET", "/sessions/{session_id}/messages"): Role.USER,
    ("GET", "/users/me"): Role.USER,
    ("GET", "/orgs/{org_id}"): Role.USER,
    ("GET", "/subscriptions/current"): Role.USER,
    ("PUT", "/personas/{persona_id}"): Role.EXPERT,
    ("POST", "/personas/{persona_id}/settings"): Role.EXPERT,
    ("POST", "/knowledge/search"): Role.EXPERT,
    ("GET", "/knowledge/sources"): Role.EXPERT,
    ("POST", "/knowledge/upload"): Role.EXPERT,
    ("GET", "/knowledge/{source_id}/chunks"): Role.EXPERT,
    ("GET", "/knowledge/{source_id}/status"): Role.EXPERT,
    ("GET", "/knowledge/{source_id}/file"): Role.EXPERT,
    ("HEAD", "/knowledge/{source_id}/file"): Role.EXPERT,
    ("DELETE", "/sessions/{session_id}"): Role.USER,
    ("DELETE", "/knowledge/{source_id}"): Role.EXPERT,
    ("DELETE", "/personas/{persona_id}"): Role.EXPERT,
}
"""All that a confined key calls, by the least role; what removes things comes last. A new route is not among them:
whatever is added here asks `Principal.may_use` of what it shows or changes, or has nothing of personas."""

FILES: Final = {("GET", "/knowledge/{source_id}/file"), ("HEAD", "/knowledge/{source_id}/file")}
"""Those of them that check the caller themselves."""

BODIES: Final[dict[tuple[str, str], dict[str, dict[str, Any]]]] = {
    ("POST", "/ai/respond"): {"json": {"persona_id": OWN, "user_message": "What is the fare?"}},
    ("PUT", "/personas/{persona_id}"): {"json": {"name": "Keza"}},
    ("POST", "/personas/{persona_id}/settings"): {"json": {"top_k": 3}},
    ("POST", "/knowledge/search"): {"json": {"persona_id": OWN, "query": "fare"}},
    ("POST", "/knowledge/upload"): {
        "data": {"persona_id": OWN},
        "files": {"file": ("b.txt", TEXT + b" More.")},
    },
}


@dataclass(frozen=True)
class Confined:
    application: Application
    owner: Person
    key: Person
    persona: UUID
    other: UUID
    source: UUID
    other_source: UUID
    session: UUID
    other_session: UUID

    async def call(self, method: str, path: str, **options: Any) -> Any:
        return await self.application.client.request(method, path, headers=self.key.headers, **options)

    async def call_route(self, method: str, path: str) -> Any:
        """With the ids that are the key's to use, and with unknown ones of every other kind."""
        ids = {
            "{org_id}": self.key.org_id,
            "{persona_id}": self.persona,
            "{source_id}": self.source,
            "{session_id}": self.session,
        }
        options = {
            part: {name: str(self.persona) if value == OWN else value for name, value in fields.items()}
            for part, fields in BODIES.get((method, path), {}).items()
        }
        return await self.call(method, re.sub(r"\{\w+\}", lambda name: str(ids.get(name[0], uuid4())), path), **options)

    async def with_role(self, role: Role) -> "Confined":
        key = await self.application.make_key(self.owner, role, persona_ids=[str(self.persona)])
        return replace(self, key=key)


@pytest.fixture
async def confined(application: Application) -> Confined:
    owner = await application.register()
    personas = [await application.create_persona(owner) for _ in range(2)]
    sources = [await application.add_document(owner, persona_id, TEXT) for persona_id in personas]
    sessions = [await add_conversation(application, owner, persona_id) for persona_id in personas]
    key = await application.make_key(owner, Role.ADMIN, persona_ids=[str(personas[0])])
    return Confined(application, owner, key, *personas, *sources, *sessions)


def test_only_the_routes_of_the_list_declare_confined_keys(application: Application) -> None:
    declared = {
        route.key
        for route in routes_of(application.app)
        if any(access.by_confined_key for access in declared_access(route.dependant))
    }
    assert declared == OPEN.keys() - FILES


@pytest.mark.parametrize("role", list(Role))
async def test_a_confined_key_is_refused_every_route_that_does_not_declare_it(confined: Confined, role: Role) -> None:
    key = await confined.with_role(role)
    wrong, refused = [], set()
    for route in routes_of(confined.application.app):
        [access] = declared_access(route.dependant)
        if route.key in OPEN or access.callers == "anyone":
            continue
        answer = await key.call_route(*route.key)
        if access.callers == "holder":
            # A key is not the proof that these ask for.
            if answer.status_code not in {401, 422}:
                wrong.append((route.key, answer.status_code))
        elif code_of(answer) != (403, "forbidden"):
            wrong.append((route.key, answer.status_code))
        else:
            refused.add(route.key)
    assert wrong == []
    assert refused >= {
        ("POST", "/personas"),
        ("PATCH", "/users/me"),
        ("GET", "/orgs/{org_id}/audit"),
        ("GET", "/orgs/{org_id}/members"),
        ("GET", "/orgs/{org_id}/sessions/stats"),
        ("PATCH", "/orgs/{org_id}/groups/{group_id}"),
    }


@pytest.mark.parametrize("role", list(Role))
async def test_a_confined_key_calls_every_route_that_declares_it_and_that_its_role_may_call(
    confined: Confined, role: Role
) -> None:
    key = await confined.with_role(role)
    statuses = {route: (await key.call_route(*route)).status_code for route in OPEN}
    assert {
        route: status
        for route, status in statuses.items()
        if (status not in {200, 202, 204} if role.at_least(OPEN[route]) else status != 403)
    } == {}


async def test_a_key_that_is_not_confined_may_still_do_what_its_role_may(confined: Confined) -> None:
    key = replace(confined, key=await confined.application.make_key(confined.owner, Role.ADMIN))
    org = f"/orgs/{key.owner.org_id}"
    group_id = await confined.application.create_group(key.key)

    assert (await key.call("PATCH", f"{org}/groups/{group_id}", json={"name": "S2 B"})).status_code == 200
    for path in (f"{org}/members", f"{org}/audit", f"{org}/sessions/stats"):
        assert (await key.call("GET", path)).status_code == 200, path
    await confined.application.create_persona(key.key)


async def test_a_confined_key_is_told_why_it_is_refused(confined: Confined) -> None:
    answer = await confined.call("POST", "/personas", json={"name": "Keza"})

    assert "confined" in answer.json()["detail"]
    assert len((await confined.call("GET", "/personas")).json()["items"]) == 1


async def test_a_confined_key_reads_what_nobody_but_its_maker_said(confined: Confined) -> None:
    learner = await confined.application.add_member(confined.owner.org_id, Role.USER)
    session_id = await add_conversation(confined.application, learner, confined.persona)
    path = f"/sessions/{session_id}/messages"
    unconfined = replace(confined, key=await confined.application.make_key(confined.owner, Role.ADMIN))

    assert code_of(await confined.call("GET", path)) == (404, "not_found")
    assert (await unconfined.call("GET", path)).status_code == 200


async def test_classes_take_no_other_persona_from_a_confined_key_even_behind_its_routes(confined: Confined) -> None:
    group_id = await confined.application.create_group(confined.owner, personas=[confined.other])
    auth = confined.application.platform.auth
    principal = await auth.api_keys.verify_key(confined.key.headers["Authorization"].split()[1])

    async with confined.application.platform.resources.database.unit_of_work(principal.org_id) as session:
        with pytest.raises(NotFound):
            await auth.groups.add_personas(session, principal, group_id, [confined.other])
        with pytest.raises(NotFound):
            await auth.groups.remove_persona(session, principal, group_id, confined.other)


async def test_lists_hold_the_key_s_own_alone(confined: Confined) -> None:
    for path, name, expected in (
        ("/personas", "persona_id", confined.persona),
        ("/knowledge/sources", "source_id", confined.source),
        ("/sessions", "session_id", confined.session),
    ):
        answer = await confined.call("GET", path)
        assert [item[name] for item in answer.json()["items"]] == [str(expected)], path


async def test_every_door_of_its_persona_is_open_and_of_another_as_unknown(confined: Confined) -> None:
    for method, path, kind, body in (
        ("GET", "/personas/{}", "persona", None),
        ("POST", "/personas/{}/settings", "persona", {"top_k": 3}),
        ("POST", "/ai/respond", "persona", {"persona_id": "{}", "user_message": "Hello"}),
        ("GET", "/knowledge/sources?persona_id={}", "persona", None),
        ("POST", "/knowledge/search", "persona", {"persona_id": "{}", "query": "fare"}),
        ("GET", "/knowledge/{}/status", "source", None),
        ("GET", "/knowledge/{}/chunks", "source", None),
        ("GET", "/knowledge/{}/file", "source", None),
        ("HEAD", "/knowledge/{}/file", "source", None),
        ("GET", "/sessions/{}/messages", "session", None),
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


async def test_a_key_of_a_learners_role_sees_the_persona_that_it_was_made_for_also_in_a_class(
    application: Application,
) -> None:
    owner = await application.register()
    shown, hidden = [await application.create_persona(owner) for _ in range(2)]
    await application.create_group(owner, personas=[shown, hidden])
    key = await application.make_key(owner, Role.USER, persona_ids=[str(shown)])

    listed = (await application.client.get("/personas", headers=key.headers)).json()["items"]
    answers = [
        await application.client.get(f"/personas/{persona_id}", headers=key.headers) for persona_id in (shown, hidden)
    ]

    assert [item["persona_id"] for item in listed] == [str(shown)]
    assert [answer.status_code for answer in answers] == [200, 404]


async def test_a_key_tells_its_own_role_and_nobodys_address(application: Application) -> None:
    owner = await application.register()
    key = await application.make_key(owner, Role.USER)

    profile = (await application.client.get("/users/me", headers=key.headers)).json()

    assert (profile["user_id"], profile["role"]) == (str(owner.user_id), "user")
    assert (profile["email"], profile["username"]) == (None, None)
