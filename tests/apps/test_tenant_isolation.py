"""Tenant isolation over the route table itself: a new route fails here until it is covered.

A foreign id, an unknown one and a malformed one are put into each id of each path, query and body; foreign and unknown
must answer alike, byte for byte but for the request id.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from bwenge.chat.models import Conversation
from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person
from tests.support.routes import routes_of, socket_paths

TEXT: Final = b"The fare from Kigali to Huye is 3,200 francs. A percentage is a fraction of one hundred."


@dataclass(frozen=True)
class Probe:
    """How to call one route with an id in the one place that the probe is about.

    `{id}` stands for the id, and `where` says what kind of id it takes; other names in braces stand for our own ids.
    """

    method: str
    path: str
    where: str
    json: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    refusal: int = 404
    malformed: int = 404


JOIN_LINK: Final = {
    "max_uses": 1,
    "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    "group_id": "{id}",
}
PERSONA_BODY: Final = {"name": "Stolen"}
KEY_BODY: Final = {"name": "Stolen", "role": "user"}
MEMBER_PROBES: Final = (
    Probe("GET", "/orgs/{id}", "org"),
    Probe("PATCH", "/orgs/{id}", "org", json={}),
    Probe("POST", "/orgs/{id}/invite", "org", json={"email": "a@b.rw", "role": "user"}),
    Probe("GET", "/orgs/{id}/invitations", "org"),
    Probe("DELETE", "/orgs/{org}/invitations/{id}", "invitation"),
    Probe("GET", "/orgs/{id}/join-links", "org"),
    Probe("POST", "/orgs/{org}/join-links", "group", json=JOIN_LINK, malformed=422),
    Probe("DELETE", "/orgs/{org}/join-links/{id}", "join_link"),
    Probe("GET", "/orgs/{id}/members", "org"),
    Probe("GET", "/orgs/{org}/members?group_id={id}", "group", malformed=422),
    Probe("POST", "/orgs/{id}/members/import", "org"),
    Probe("PATCH", "/orgs/{org}/members/{id}", "member", json={"name": "Stolen"}),
    Probe("DELETE", "/orgs/{org}/members/{id}", "member"),
)

TENANT_PROBES: Final = (
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
    Probe("GET", "/orgs/{id}/audit", "org"),
    # Nobody in an organisation is an operator; what operators meet is in tests/payments/test_grants.py.
    Probe(
        "POST",
        "/operator/orgs/{id}/grant",
        "org",
        json={"plan_name": "pro", "until": "2030-01-01", "reason": "A pilot"},
        refusal=403,
        malformed=403,
    ),
)

_GROUP_BODY: Final = {"name": "S2 A"}
_LEARNER_BODY: Final = {"user_ids": ["{learner}"]}
_PERSONA_IDS_BODY: Final = {"persona_ids": ["{persona}"]}
GROUP_PROBES: Final = (
    Probe("POST", "/orgs/{org}/groups", "expert", json={**_GROUP_BODY, "owner_id": "{id}"}, malformed=422),
    Probe("GET", "/orgs/{org}/groups/{id}", "group"),
    Probe("PATCH", "/orgs/{org}/groups/{id}", "group", json=_GROUP_BODY),
    Probe("PATCH", "/orgs/{org}/groups/{group}", "expert", json={"owner_id": "{id}"}, malformed=422),
    Probe("DELETE", "/orgs/{org}/groups/{id}", "group"),
    Probe("GET", "/orgs/{org}/groups/{id}/members", "group"),
    Probe("POST", "/orgs/{org}/groups/{id}/members", "group", json=_LEARNER_BODY),
    Probe("POST", "/orgs/{org}/groups/{group}/members", "learner", json={"user_ids": ["{id}"]}, malformed=422),
    Probe("PUT", "/orgs/{org}/groups/{id}/members/{learner}", "group"),
    Probe("PUT", "/orgs/{org}/groups/{group}/members/{id}", "learner"),
    Probe("DELETE", "/orgs/{org}/groups/{id}/members/{learner}", "group"),
    Probe("DELETE", "/orgs/{org}/groups/{group}/members/{id}", "learner"),
    Probe("GET", "/orgs/{org}/groups/{id}/personas", "group"),
    Probe("POST", "/orgs/{org}/groups/{id}/personas", "group", json=_PERSONA_IDS_BODY),
    Probe("POST", "/orgs/{org}/groups/{group}/personas", "persona", json={"persona_ids": ["{id}"]}, malformed=422),
    Probe("DELETE", "/orgs/{org}/groups/{id}/personas/{persona}", "group"),
    Probe("DELETE", "/orgs/{org}/groups/{group}/personas/{id}", "persona"),
)
ORG_PROBES: Final = (
    Probe("GET", "/orgs/{id}/sessions/stats", "org"),
    Probe("GET", "/orgs/{id}/audit", "org"),
    Probe("GET", "/orgs/{id}/groups", "org"),
    Probe("POST", "/orgs/{id}/groups", "org", json=_GROUP_BODY),
    Probe("GET", "/orgs/{id}/groups/{group}", "org"),
    Probe("PATCH", "/orgs/{id}/groups/{group}", "org", json=_GROUP_BODY),
    Probe("DELETE", "/orgs/{id}/groups/{group}", "org"),
    Probe("GET", "/orgs/{id}/groups/{group}/members", "org"),
    Probe("POST", "/orgs/{id}/groups/{group}/members", "org", json=_LEARNER_BODY),
    Probe("PUT", "/orgs/{id}/groups/{group}/members/{learner}", "org"),
    Probe("DELETE", "/orgs/{id}/groups/{group}/members/{learner}", "org"),
    Probe("GET", "/orgs/{id}/groups/{group}/personas", "org"),
    Probe("POST", "/orgs/{id}/groups/{group}/personas", "org", json=_PERSONA_IDS_BODY),
    Probe("DELETE", "/orgs/{id}/groups/{group}/personas/{persona}", "org"),
)
KEY_PROBES: Final = (
    Probe("POST", "/orgs/{id}/api-keys", "org", json=KEY_BODY),
    Probe("GET", "/orgs/{id}/api-keys", "org"),
    Probe("DELETE", "/orgs/{org}/api-keys/{id}", "key"),
    Probe(
        "POST",
        "/orgs/{org}/api-keys",
        "persona",
        json=KEY_BODY | {"persona_ids": ["{id}"]},
        refusal=422,
        malformed=422,
    ),
    Probe("POST", "/orgs/{org}/members/{id}/reset", "learner"),
    Probe("POST", "/orgs/{id}/members/{learner}/reset", "org"),
    Probe("GET", "/jobs/{id}", "job"),
    Probe("POST", "/orgs/{id}/export", "org"),
    Probe("DELETE", "/orgs/{id}", "org"),
    Probe("GET", "/orgs/{id}/exports/{id}/file", "job", refusal=401),
)

# Routes that take no id of anything that belongs to a tenant.
WITHOUT_IDS: Final = {
    ("POST", "/auth/register"),
    ("POST", "/auth/login"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/password"),
    ("POST", "/auth/password/forgot"),
    ("POST", "/auth/password/reset"),
    ("GET", "/users/me"),
    ("PATCH", "/users/me"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/plans"),
    ("GET", "/subscriptions/current"),
    ("POST", "/personas"),
    ("GET", "/personas"),
    ("GET", "/sessions"),
    ("GET", "/operator/orgs"),
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
}
PROBES: Final = (*TENANT_PROBES, *MEMBER_PROBES, *GROUP_PROBES, *ORG_PROBES, *KEY_PROBES)
# Sockets are refused before they are accepted; tests/chat proves it over a real connection, id by id.
SOCKETS: Final = {"/ws/chat"}


@dataclass
class School:
    """An organisation with one of everything."""

    owner: Person
    members: dict[Role, Person]
    keys: dict[Role, Person] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)


async def found_school(application: Application) -> School:
    owner = await application.register()
    members = {role: await application.add_member(owner.org_id, role) for role in (Role.USER, Role.EXPERT, Role.ADMIN)}
    school = School(owner, members | {Role.OWNER: owner}, ids={"org": owner.org_id})
    school.ids["persona"] = await application.create_persona(owner)
    school.ids["source"] = await application.add_document(owner, school.ids["persona"], TEXT)
    school.ids |= {
        "org": owner.org_id,
        "expert": members[Role.EXPERT].user_id,
        "learner": members[Role.USER].user_id,
        "member": members[Role.USER].user_id,
    }
    school.ids["group"] = await application.create_group(
        owner, learners=[members[Role.USER]], personas=[school.ids["persona"]]
    )
    school.ids |= await add_offers(application, owner)
    school.keys = {role: await application.make_key(owner, role) for role in Role}
    school.ids["key"] = await key_id_of(application, owner)
    school.ids["job"] = await add_job(application, owner)
    school.ids["session"] = await add_conversation(application, owner, school.ids["persona"])
    return school


async def add_offers(application: Application, owner: Person) -> dict[str, UUID]:
    """An invitation and a join link."""
    invitation = await application.client.post(
        f"/orgs/{owner.org_id}/invite",
        headers=owner.headers,
        json={"email": f"{new_id().hex}@school.example", "role": "user"},
    )
    link = await application.client.post(
        f"/orgs/{owner.org_id}/join-links", headers=owner.headers, json=JOIN_LINK | {"group_id": None}
    )
    return {
        "invitation": UUID(invitation.json()["invite_id"]),
        "join_link": UUID(link.json()["join_link_id"]),
    }


async def key_id_of(application: Application, owner: Person) -> UUID:
    answer = await application.client.get(f"/orgs/{owner.org_id}/api-keys?limit=1", headers=owner.headers)
    return UUID(answer.json()["items"][0]["key_id"])


async def add_job(application: Application, owner: Person) -> UUID:
    answer = await application.client.post(f"/orgs/{owner.org_id}/export", headers=owner.headers)
    return UUID(answer.json()["job_id"])


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


async def call(
    application: Application, person: Person, probe: Probe, value: object, *, ours: School
) -> tuple[int, bytes]:
    """Status, and body without its request id."""

    def put_in(text: str) -> str:
        for name, own_id in ours.ids.items():
            text = text.replace(f"{{{name}}}", str(own_id))
        return text.replace("{id}", str(value))

    options: dict[str, Any] = {}
    if probe.json is not None:
        options["json"] = json.loads(put_in(json.dumps(probe.json)))
    if probe.form is not None:
        options["data"] = {name: put_in(text) for name, text in probe.form.items()}
        options["files"] = {"file": ("b.txt", TEXT + b" More.")}
    answer = await application.client.request(probe.method, put_in(probe.path), headers=person.headers, **options)
    return answer.status_code, answer.content.replace(answer.headers["x-request-id"].encode(), b"")


def allowed(application: Application, probe: Probe, role: Role, *, by_key: bool) -> bool:
    """Whether the route's declaration admits the caller at all; who it does not admit is refused alike with 403."""
    wanted = (probe.method, _pattern(probe.path.partition("?")[0]))
    [route] = [route for route in routes_of(application.app) if (route.method, _pattern(route.path)) == wanted]
    [access] = declared_access(route.dependant)
    if access.callers == "holder":
        # A source's file: without a signed address, experts open it.
        return probe.refusal == 401 or role.at_least(Role.EXPERT)
    admitted = access.callers in {"members", "signed_in"} and role.at_least(access.least)
    return admitted and (access.by_key or not by_key)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.method} {probe.path}")
async def test_a_foreign_id_answers_exactly_as_an_unknown_one_for_every_role(
    application: Application, schools: tuple[School, School], probe: Probe
) -> None:
    ours, foreign = schools
    for by_key, callers in ((False, ours.members), (True, ours.keys)):
        for role, caller in callers.items():
            unknown = await call(application, caller, probe, uuid4(), ours=ours)
            assert await call(application, caller, probe, foreign.ids[probe.where], ours=ours) == unknown, (
                role,
                by_key,
            )
            assert unknown[0] == (probe.refusal if allowed(application, probe, role, by_key=by_key) else 403), (
                role,
                by_key,
            )


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.method} {probe.path}")
async def test_a_malformed_id_is_refused_as_the_contract_says(
    application: Application, schools: tuple[School, School], probe: Probe
) -> None:
    ours, _ = schools
    for value in ("not-a-uuid", "0", "null"):
        status, body = await call(application, ours.owner, probe, value, ours=ours)
        assert status == probe.malformed, value
        if probe.malformed == probe.refusal == 404:
            assert body == (await call(application, ours.owner, probe, uuid4(), ours=ours))[1], value


async def test_our_own_ids_do_answer(application: Application, schools: tuple[School, School]) -> None:
    """What proves that the probes above call what they mean to call."""
    ours, _ = schools
    for probe in PROBES:
        if probe.refusal == 401:
            continue  # A signed address opens it, and no login.
        if probe.method in {"GET", "HEAD"} or probe.path in {"/ai/respond", "/knowledge/search", "/knowledge/upload"}:
            status, _ = await call(application, ours.owner, probe, ours.ids[probe.where], ours=ours)
            assert status in {200, 202}, probe


async def test_lists_show_nothing_of_another_organisation(
    application: Application, schools: tuple[School, School]
) -> None:
    ours, foreign = schools
    orgs = f"/orgs/{ours.owner.org_id}"
    own = [f"{orgs}/{what}" for what in ("members", "invitations", "join-links", "audit", "groups", "api-keys")]
    for path in ("/personas", "/knowledge/sources", "/sessions", *own):
        answer = await application.client.get(path, headers=ours.owner.headers)
        assert answer.json()["items"], path
        for foreign_id in (*foreign.ids.values(), foreign.owner.org_id, foreign.owner.user_id):
            assert str(foreign_id) not in answer.text, path


def test_every_route_is_covered(application: Application) -> None:
    """A route that is in none of the lists above is one whose walls nobody has tried."""
    covered = {(probe.method, _pattern(probe.path.partition("?")[0])) for probe in PROBES}
    routes = {(route.method, _pattern(route.path)) for route in routes_of(application.app)}
    assert routes == covered | WITHOUT_IDS
    assert socket_paths(application.app) == SOCKETS


def _pattern(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{id}", path)
