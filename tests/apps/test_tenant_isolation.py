"""Tenant isolation over the route table itself: a new route, and a new id of an old one, fails here until it is known.

A foreign id, an unknown one and a malformed one are put into each id of each path, query and body; foreign and unknown
must answer alike, byte for byte but for the request id. Sockets, signed addresses and jobs: `test_walls_beside_http`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Role
from tests.support.application import Application, Person
from tests.support.furnished import TEXT, FurnishedSchool
from tests.support.id_places import IdPlace, id_places, ids_in_path
from tests.support.routes import Route, routes_of

Body = Mapping[str, Any]

OWN: Final = "own"
"""Stands for our own id of the field's kind."""

JSON: Final[dict[tuple[str, str], Body]] = {
    ("PATCH", "/orgs/{org_id}"): {"language": "rw"},
    ("POST", "/orgs/{org_id}/invite"): {"email": "a@b.example", "role": "user"},
    ("POST", "/orgs/{org_id}/join-links"): {
        "max_uses": 1,
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        "group_id": OWN,
    },
    ("PATCH", "/orgs/{org_id}/members/{user_id}"): {"name": "Keza"},
    ("POST", "/orgs/{org_id}/groups"): {"name": "S2 B", "owner_id": OWN},
    ("PATCH", "/orgs/{org_id}/groups/{group_id}"): {"name": "S2 C", "owner_id": OWN},
    ("POST", "/orgs/{org_id}/groups/{group_id}/members"): {"user_id": OWN},
    ("POST", "/orgs/{org_id}/groups/{group_id}/personas"): {"persona_id": OWN},
    ("POST", "/orgs/{org_id}/api-keys"): {"name": "Website", "role": "user", "persona_ids": [OWN]},
    ("POST", "/operator/orgs/{org_id}/grant"): {"plan_name": "pro", "until": "2030-01-01", "reason": "A pilot"},
    ("PUT", "/personas/{persona_id}"): {"name": "Keza"},
    ("POST", "/personas/{persona_id}/settings"): {"temperature": 0.1},
    ("POST", "/ai/respond"): {"persona_id": OWN, "user_message": "What is the fare?"},
    ("POST", "/knowledge/search"): {"persona_id": OWN, "query": "fare"},
}
FORMS: Final[dict[tuple[str, str], tuple[Body, tuple[str, bytes]]]] = {
    ("POST", "/knowledge/upload"): ({"persona_id": OWN}, ("b.txt", TEXT + b" More.")),
    ("POST", "/orgs/{org_id}/members/import"): ({}, ("s2.csv", b"name,username\nKeza,keza.of.s2\n")),
}
INSTEAD: Final = {"user_ids": "user_id", "persona_ids": "persona_id"}
"""Fields of which a body has the one or the other."""

# In a path an id that names nothing is 404 whatever it looks like; elsewhere one that is none at all is a bad field.
USUAL: Final = {"path": (404, 404), "query": (404, 422), "json": (404, 422), "form": (404, 422)}
OTHERWISE: Final[dict[tuple[str, str, str], tuple[int, int]]] = {
    # The maker of a key is told which of its personas are none.
    ("POST", "/orgs/{org_id}/api-keys", "persona_ids"): (422, 422),
    # Nobody in an organisation is an operator; what operators meet is in tests/payments/test_grants.py.
    ("POST", "/operator/orgs/{org_id}/grant", "org_id"): (403, 403),
    # Opened by a signature and by nothing else: what signatures do is in test_walls_beside_http.
    ("GET", "/orgs/{org_id}/exports/{export_id}/file", "org_id"): (401, 404),
    ("GET", "/orgs/{org_id}/exports/{export_id}/file", "export_id"): (401, 404),
    ("GET", "/knowledge/{source_id}/file", "org"): (403, 422),
    ("HEAD", "/knowledge/{source_id}/file", "org"): (403, 422),
}
"""Where the answer to an id that names nothing, or that is malformed, is not the usual one."""


@dataclass(frozen=True)
class Call:
    """A request to a route: our own ids everywhere but in the place of `place`, if there is one."""

    route: tuple[str, str]
    ours: FurnishedSchool
    place: IdPlace | None = None
    value: object = None

    async def by(self, application: Application, caller: Person) -> tuple[int, bytes]:
        """Status, and body without its request id."""
        method, path = self.route
        options: dict[str, Any] = {}
        if self.route in JSON:
            options["json"] = self._body("json", JSON[self.route])
        if self.route in FORMS:
            fields, file = FORMS[self.route]
            options |= {"data": self._body("form", fields), "files": {"file": file}}
        if self.place is not None and self.place.part == "query":
            options["params"] = {self.place.name: str(self.value)}
        url = re.sub(r"\{(\w+)[^}]*\}", lambda name: self._id("path", name[1]), path)
        answer = await application.client.request(method, url, headers=caller.headers, **options)
        return answer.status_code, answer.content.replace(answer.headers["x-request-id"].encode(), b"")

    def _body(self, part: str, fields: Body) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for name, value in fields.items():
            if value == OWN:
                body[name] = self._id(part, name)
            else:
                body[name] = [self._id(part, name)] if value == [OWN] else value
        if self.place is not None and self.place.part == part:
            body.pop(INSTEAD.get(self.place.name, ""), None)
            body[self.place.name] = [str(self.value)] if self.place.in_list else str(self.value)
        return body

    def _id(self, part: str, name: str) -> str:
        if self.place is not None and (self.place.part, self.place.name) == (part, name):
            return str(self.value)
        return str(self.ours.ids[kind_of(name)])


def kind_of(name: str) -> str:
    """The kind of thing that a parameter or field names."""
    return name.removesuffix("s").removesuffix("_id")


def is_admitted(route: Route, role: Role, *, by_key: bool) -> bool:
    """Whether the route's declaration admits the caller at all; who it does not admit is refused alike with 403."""
    [access] = declared_access(route.dependant)
    if access.callers == "holder":
        # Without a signed address, experts open a source's file; an export nobody does.
        return "exports" in route.path or role.at_least(Role.EXPERT)
    admits = access.callers in {"members", "signed_in"} and role.at_least(access.least)
    return admits and (access.by_key or not by_key)


async def test_a_foreign_id_answers_exactly_as_an_unknown_one_in_every_place_for_every_caller(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, foreign = schools
    table = {route.key: route for route in routes_of(application.app)}
    wrong = []
    for place in id_places(application.app):
        refusal, _ = OTHERWISE.get((*place.route, place.name), USUAL[place.part])
        for role, by_key, caller in ours.callers:
            unknown = await Call(place.route, ours, place, uuid4()).by(application, caller)
            other = await Call(place.route, ours, place, foreign.ids[kind_of(place.name)]).by(application, caller)
            expected = refusal if is_admitted(table[place.route], role, by_key=by_key) else 403
            if other != unknown or unknown[0] != expected:
                wrong.append((str(place), role, by_key, unknown, other))
    assert wrong == []


async def test_a_malformed_id_is_refused_as_the_contract_says_in_every_place(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, _ = schools
    wrong = []
    for place in id_places(application.app):
        refusal, malformed = OTHERWISE.get((*place.route, place.name), USUAL[place.part])
        for value in ("not-a-uuid", "0", "null"):
            answer = await Call(place.route, ours, place, value).by(application, ours.owner)
            unknown = await Call(place.route, ours, place, uuid4()).by(application, ours.owner)
            if answer[0] != malformed or (malformed == refusal == 404 and answer != unknown):
                wrong.append((str(place), value, answer))
    assert wrong == []


async def test_our_own_ids_are_accepted_in_every_place(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    """What proves that the calls above call what they mean to call; what removes things comes last, parts first."""
    ours, _ = schools
    gentle = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    places = sorted(id_places(application.app), key=lambda place: (gentle.index(place.method), -len(place.path), place))
    wrong = []
    for place in places:
        if (*place.route, place.name) in OTHERWISE and place.name != "persona_ids":
            continue
        if place.method == "DELETE" and place.name != ids_in_path(place.path)[-1]:
            continue  # The same call once more, of what is gone by then.
        answer = await Call(place.route, ours, place, ours.ids[kind_of(place.name)]).by(application, ours.owner)
        if answer[0] not in {200, 201, 202, 204}:
            wrong.append((str(place), answer))
    assert wrong == []


async def test_lists_show_nothing_of_another_organisation(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, foreign = schools
    org = f"/orgs/{ours.owner.org_id}"
    own = [f"{org}/{what}" for what in ("members", "invitations", "join-links", "audit", "groups", "api-keys")]
    for path in ("/personas", "/knowledge/sources", "/sessions", *own):
        answer = await application.client.get(path, headers=ours.owner.headers)
        assert answer.json()["items"], path
        for foreign_id in (*foreign.ids.values(), foreign.owner.user_id):
            assert str(foreign_id) not in answer.text, path


def test_ids_are_found_in_paths_queries_bodies_and_lists(application: Application) -> None:
    """What proves that the tests above try anything: one place of each sort, and none of another name."""
    places = id_places(application.app)
    shown = {str(place) for place in places}
    assert shown >= {
        "DELETE /orgs/{org_id}/groups/{group_id}/members/{user_id} path user_id",
        "HEAD /knowledge/{source_id}/file path source_id",
        "GET /orgs/{org_id}/members query group_id",
        "PATCH /orgs/{org_id}/groups/{group_id} json owner_id",
        "POST /orgs/{org_id}/groups/{group_id}/personas json persona_ids[]",
        "POST /knowledge/upload form persona_id",
    }
    in_paths = {(route.key, name) for route in routes_of(application.app) for name in ids_in_path(route.path)}
    assert {(place.route, place.name) for place in places if place.part == "path"} == in_paths
