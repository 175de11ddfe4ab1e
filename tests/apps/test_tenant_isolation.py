"""Tenant isolation over the route table itself: a new route fails here until it is covered.

A foreign id, an unknown one and a malformed one are put into each id of each path, query and body; foreign and unknown
must answer alike, byte for byte but for the request id.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

from bwenge.chat.models import Conversation
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person

TEXT: Final = b"The fare from Kigali to Huye is 3,200 francs. A percentage is a fraction of one hundred."


@dataclass(frozen=True)
class Probe:
    """How to call one route with an id in the one place that the probe is about.

    `{persona}`, `{source}`, `{session}` stand for the id; `where` says what kind of id it takes.
    """

    method: str
    path: str
    where: str
    json: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    refusal: int = 404
    malformed: int = 404


PERSONA_BODY: Final = {"name": "Stolen"}
PROBES: Final = (
    Probe("GET", "/personas/{id}", "persona"),
    Probe("PUT", "/personas/{id}", "persona", json=PERSONA_BODY),
    Probe("DELETE", "/personas/{id}", "persona"),
    Probe("POST", "/personas/{id}/settings", "persona", json={"temperature": 0.1}),
    Probe("POST", "/ai/respond", "persona", json={"persona_id": "{id}", "user_message": "fare?"}, malformed=422),
    Probe("POST", "/knowledge/upload", "persona", form={"persona_id": "{id}"}, malformed=422),
    Probe("GET", "/knowledge/sources?persona_id={id}", "persona", malformed=422),
    Probe("POST", "/knowledge/search", "persona", json={"persona_id": "{id}", "query": "fare"}, malformed=422),
    Probe("GET", "/knowledge/{id}/status", "source"),
    Probe("GET", "/knowledge/{id}/chunks", "source"),
    Probe("GET", "/knowledge/{id}/file", "source"),
    Probe("HEAD", "/knowledge/{id}/file", "source"),
    Probe("DELETE", "/knowledge/{id}", "source"),
    Probe("GET", "/sessions/{id}/messages", "session"),
    Probe("DELETE", "/sessions/{id}", "session"),
)

# Routes that take no id of anything that belongs to a tenant.
WITHOUT_IDS: Final = {
    ("POST", "/auth/register"),
    ("POST", "/auth/login"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/logout"),
    ("GET", "/users/me"),
    ("PATCH", "/users/me"),
    ("GET", "/.well-known/jwks.json"),
    ("POST", "/personas"),
    ("GET", "/personas"),
    ("GET", "/sessions"),
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
}
# Sockets are refused before they are accepted; tests/chat proves it over a real connection, id by id.
SOCKETS: Final = {"/ws/chat"}


@dataclass
class School:
    """An organisation with one of everything."""

    owner: Person
    members: dict[Role, Person]
    ids: dict[str, UUID] = field(default_factory=dict)


async def found_school(application: Application) -> School:
    owner = await application.register()
    members = {role: await application.add_member(owner.org_id, role) for role in (Role.USER, Role.EXPERT, Role.ADMIN)}
    school = School(owner, members | {Role.OWNER: owner})
    school.ids["persona"] = await application.create_persona(owner)
    school.ids["source"] = await application.add_document(owner, school.ids["persona"], TEXT)
    school.ids["session"] = await add_conversation(application, owner, school.ids["persona"])
    return school


async def add_conversation(application: Application, owner: Person, persona_id: UUID) -> UUID:
    conversation = Conversation(
        id=new_id(), org_id=owner.org_id, user_id=owner.user_id, persona_id=persona_id, title="The fare"
    )
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        session.add(conversation)
    return conversation.id


@pytest.fixture
async def schools(application: Application) -> tuple[School, School]:
    """Ours, and a foreign one."""
    return await found_school(application), await found_school(application)


async def call(application: Application, person: Person, probe: Probe, value: object) -> tuple[int, bytes]:
    """Status, and body without its request id."""

    def put_in(text: str) -> str:
        return text.replace("{id}", str(value))

    options: dict[str, Any] = {}
    if probe.json is not None:
        options["json"] = json.loads(put_in(json.dumps(probe.json)))
    if probe.form is not None:
        options["data"] = {name: put_in(text) for name, text in probe.form.items()}
        options["files"] = {"file": ("b.txt", TEXT + b" More.")}
    answer = await application.client.request(probe.method, put_in(probe.path), headers=person.headers, **options)
    return answer.status_code, answer.content.replace(answer.headers["x-request-id"].encode(), b"")


def allowed(probe: Probe, role: Role) -> bool:
    """Whether the role may call the route at all; below it, every id is refused alike with 403."""
    for_everyone = probe.path.startswith(("/ai/", "/sessions")) or (probe.method, probe.path) == (
        "GET",
        "/personas/{id}",
    )
    return for_everyone or role.at_least(Role.EXPERT)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.method} {probe.path}")
async def test_a_foreign_id_answers_exactly_as_an_unknown_one_for_every_role(
    application: Application, schools: tuple[School, School], probe: Probe
) -> None:
    ours, foreign = schools
    for role, person in ours.members.items():
        unknown = await call(application, person, probe, uuid4())
        assert await call(application, person, probe, foreign.ids[probe.where]) == unknown, role
        assert unknown[0] == (probe.refusal if allowed(probe, role) else 403), role


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.method} {probe.path}")
async def test_a_malformed_id_is_refused_as_the_contract_says(
    application: Application, schools: tuple[School, School], probe: Probe
) -> None:
    ours, _ = schools
    for value in ("not-a-uuid", "0", "null"):
        status, body = await call(application, ours.owner, probe, value)
        assert status == probe.malformed, value
        if probe.malformed == 404:
            assert body == (await call(application, ours.owner, probe, uuid4()))[1], value


async def test_our_own_ids_do_answer(application: Application, schools: tuple[School, School]) -> None:
    """What proves that the probes above call what they mean to call."""
    ours, _ = schools
    for probe in PROBES:
        if probe.method in {"GET", "HEAD"} or probe.path in {"/ai/respond", "/knowledge/search", "/knowledge/upload"}:
            status, _ = await call(application, ours.owner, probe, ours.ids[probe.where])
            assert status in {200, 202}, probe


async def test_lists_show_nothing_of_another_organisation(
    application: Application, schools: tuple[School, School]
) -> None:
    ours, foreign = schools
    for path in ("/personas", "/knowledge/sources", "/sessions"):
        answer = await application.client.get(path, headers=ours.owner.headers)
        assert answer.json()["items"], path
        for foreign_id in (*foreign.ids.values(), foreign.owner.org_id, foreign.owner.user_id):
            assert str(foreign_id) not in answer.text, path


def test_every_route_is_covered(application: Application) -> None:
    """A route that is in none of the lists above is one whose walls nobody has tried."""
    covered = {(probe.method, probe.path.partition("?")[0]) for probe in PROBES}
    routes, sockets = set(), set()
    for context in iter_route_contexts(application.app.routes):
        path = re.sub(r"\{[^}]*\}", "{id}", context.path or "")
        if isinstance(context.original_route, APIWebSocketRoute):
            sockets.add(path)
        elif isinstance(context.original_route, APIRoute):
            routes |= {(method, path) for method in context.methods or ()}
    assert routes == covered | WITHOUT_IDS
    assert sockets == SOCKETS
