"""/orgs/{org_id}/api-keys, and what a key may do: what its maker may, in a role of at most theirs, while it lives."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from httpx2 import Response
from sqlalchemy import event, text

from bwenge.kit.db import Database
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person, open_application
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


async def make(application: Application, maker: Person, **body: Any) -> Response:
    return await application.client.post(
        f"/orgs/{maker.org_id}/api-keys", headers=maker.headers, json={"name": "Library", "role": "expert", **body}
    )


async def delete(application: Application, person: Person, key_id: object) -> Response:
    return await application.client.delete(f"/orgs/{person.org_id}/api-keys/{key_id}", headers=person.headers)


async def listed(application: Application, person: Person, query: str = "") -> dict[str, Any]:
    answer = await application.client.get(f"/orgs/{person.org_id}/api-keys{query}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def whoami(application: Application, caller: Person) -> Response:
    return await application.client.get("/users/me", headers=caller.headers)


async def verified(application: Application, caller: Person) -> Principal:
    return await application.platform.auth.api_keys.verify_key(caller.headers["Authorization"].split()[1])


async def execute(database: SavepointDatabase, statement: str, **parameters: Any) -> Any:
    async with database.superuser() as connection:
        return await connection.execute(text(statement), parameters)


async def audit_entries(application: Application, person: Person, action: str) -> list[dict[str, Any]]:
    answer = await application.client.get(f"/orgs/{person.org_id}/audit", headers=person.headers)
    return [entry for entry in answer.json()["items"] if entry["action"] == action]


def without_request_id(answer: Response) -> dict[str, Any]:
    return {**answer.json(), "request_id": ""}


async def test_a_new_key_is_shown_once_and_stored_as_a_hash(
    application: Application, owner: Person, database: SavepointDatabase
) -> None:
    answer = await make(application, owner, expires_at="2999-01-01T00:00:00+02:00")

    made = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert re.fullmatch(r"bwk_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}", made["key"])
    assert made["key"].startswith(made["prefix"] + "_")
    assert made == {
        "key_id": made["key_id"],
        "key": made["key"],
        "prefix": made["prefix"],
        "name": "Library",
        "role": "expert",
        "persona_ids": None,
        "created_at": made["created_at"],
        "expires_at": "2998-12-31T22:00:00Z",
        "last_used_at": None,
        "created_by": str(owner.user_id),
    }
    assert (await listed(application, owner))["items"] == [{k: v for k, v in made.items() if k != "key"}]
    stored = (
        await execute(database, "SELECT octet_length(key_hash) AS size, api_keys::text AS row FROM api_keys")
    ).one()
    assert stored.size == 32
    assert made["key"].removeprefix(made["prefix"]) not in stored.row


async def test_two_keys_are_never_alike(application: Application, owner: Person) -> None:
    one, other = [(await make(application, owner)).json() for _ in range(2)]

    assert one["key"] != other["key"]
    assert one["prefix"] != other["prefix"]


async def test_keys_are_listed_page_by_page_newest_first(application: Application, owner: Person) -> None:
    for name in ("first", "second", "third"):
        await make(application, owner, name=name)

    page = await listed(application, owner, "?limit=2")
    rest = await listed(application, owner, f"?limit=2&cursor={page['next_cursor']}")

    assert [item["name"] for item in page["items"] + rest["items"]] == ["third", "second", "first"]
    assert rest["next_cursor"] is None


async def test_a_key_calls_for_who_made_it(application: Application, owner: Person) -> None:
    admin = await application.add_member(owner.org_id, Role.ADMIN)
    key = await application.make_key(admin)

    answer = await whoami(application, key)

    assert (answer.status_code, answer.json()["user_id"]) == (200, str(admin.user_id))
    made = await application.client.post("/personas", headers=key.headers, json={"name": "Keza"})
    assert made.json()["owner_id"] == str(admin.user_id)


async def test_a_key_acts_in_its_own_role_and_not_in_its_makers(application: Application, owner: Person) -> None:
    learner, expert = [await application.make_key(owner, role) for role in (Role.USER, Role.EXPERT)]
    audit = f"/orgs/{owner.org_id}/audit"

    assert code_of(await application.client.get("/knowledge/sources", headers=learner.headers)) == (403, "forbidden")
    assert (await application.client.get("/knowledge/sources", headers=expert.headers)).status_code == 200
    assert code_of(await application.client.get(audit, headers=expert.headers)) == (403, "forbidden")


async def test_the_role_is_the_lower_of_the_keys_and_the_makers_present_one(
    application: Application, owner: Person, database: SavepointDatabase
) -> None:
    ranks = list(Role)
    for key_role, maker_role in product(Role, Role):
        await execute(database, "UPDATE users SET role = 'owner' WHERE id = :id", id=owner.user_id)
        key = await application.make_key(owner, key_role)
        await execute(database, "UPDATE users SET role = :role WHERE id = :id", role=maker_role, id=owner.user_id)

        principal = await verified(application, key)

        assert principal.role == min(key_role, maker_role, key=ranks.index), (key_role, maker_role)
        assert (principal.user_id, principal.org_id, principal.confined_to) == (owner.user_id, owner.org_id, None)
        assert (await whoami(application, key)).status_code == 200


async def test_nobody_makes_a_key_above_their_own_role(application: Application, owner: Person) -> None:
    admin = await application.add_member(owner.org_id, Role.ADMIN)

    assert code_of(await make(application, admin, role="owner")) == (403, "forbidden")
    assert (await make(application, admin, role="admin")).status_code == 201
    assert len((await listed(application, owner))["items"]) == 1


@pytest.mark.parametrize("role", [Role.USER, Role.EXPERT])
async def test_below_admin_nobody_makes_sees_or_ends_keys(application: Application, owner: Person, role: Role) -> None:
    key_id = (await make(application, owner)).json()["key_id"]
    person = await application.add_member(owner.org_id, role)

    assert code_of(await make(application, person, role="user")) == (403, "forbidden")
    assert code_of(await delete(application, person, key_id)) == (403, "forbidden")
    path = f"/orgs/{owner.org_id}/api-keys"
    assert code_of(await application.client.get(path, headers=person.headers)) == (403, "forbidden")


async def test_an_administrator_ends_keys_of_others(application: Application, owner: Person) -> None:
    key = await application.make_key(owner)
    admin = await application.add_member(owner.org_id, Role.ADMIN)
    [item] = (await listed(application, admin))["items"]

    assert (await delete(application, admin, item["key_id"])).status_code == 204
    assert code_of(await whoami(application, key)) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "nul\x00"},
        {"name": None},
        {"role": "operator"},
        {"role": "root"},
        {"role": None},
        {"persona_ids": []},
        {"persona_ids": ["gabriel"]},
        {"persona_ids": [str(UUID(int=number)) for number in range(101)]},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        {"expires_at": "soon"},
        {"expires_at": 1e300},
        {"key": "bwk_of_my_own"},
        {"created_by": str(UUID(int=1))},
    ],
    ids=lambda body: str(body)[:60],
)
async def test_a_malformed_key_is_refused(application: Application, owner: Person, body: dict[str, Any]) -> None:
    answer = await make(application, owner, **body)

    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"].split(".")[0] in {*body, ""}
    assert (await listed(application, owner))["items"] == []


# Keys that are confined to personas.


async def test_a_confined_key_names_its_personas_and_no_others(application: Application, owner: Person) -> None:
    ours, other = [await application.create_persona(owner) for _ in range(2)]

    answer = await make(application, owner, persona_ids=[str(ours), str(ours)])

    assert answer.json()["persona_ids"] == [str(ours)]
    principal = await application.platform.auth.api_keys.verify_key(answer.json()["key"])
    assert principal.confined_to == frozenset({ours})
    assert principal.may_use(ours)
    assert not principal.may_use(other)


async def test_a_foreign_persona_is_refused_as_an_unknown_and_a_deleted_one(
    application: Application, owner: Person
) -> None:
    ours, deleted = [await application.create_persona(owner) for _ in range(2)]
    await application.client.delete(f"/personas/{deleted}", headers=owner.headers)
    foreign = await application.create_persona(await application.register())

    unknown, *others = [
        await make(application, owner, persona_ids=[str(ours), str(persona_id)])
        for persona_id in (new_id(), foreign, deleted)
    ]

    assert code_of(unknown) == (422, "invalid")
    assert [finding["field"] for finding in unknown.json()["errors"]] == ["persona_ids.1"]
    assert [without_request_id(other) for other in others] == [without_request_id(unknown)] * 2
    assert (await listed(application, owner))["items"] == []


# The end of a key.

ENDS = {
    "deleted": "DELETE FROM api_keys",
    "expired": "UPDATE api_keys SET expires_at = clock_timestamp() - interval '1 second'",
    "maker deactivated": "UPDATE users SET is_active = false",
    "maker removed": "DELETE FROM users",
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_key_stops_at_once_and_is_refused_as_an_unknown_one(
    application: Application, owner: Person, database: SavepointDatabase, end: str
) -> None:
    admin = await application.add_member(owner.org_id, Role.ADMIN)
    key = await application.make_key(admin, expires_at="2999-01-01T00:00:00Z")
    assert (await whoami(application, key)).status_code == 200

    condition = " WHERE id = :id" if "users" in ENDS[end] else ""
    await execute(database, ENDS[end] + condition, **({"id": admin.user_id} if condition else {}))

    refused = await whoami(application, key)
    unknown = await whoami(application, Person(admin.user_id, admin.org_id, admin.role, stranger()))
    assert code_of(refused) == (401, "unauthenticated")
    assert without_request_id(refused) == without_request_id(unknown)


@pytest.mark.parametrize("end", [*ENDS, "maker demoted"])
async def test_a_key_that_ends_after_it_was_verified_begins_no_transaction(
    application: Application, owner: Person, database: SavepointDatabase, end: str
) -> None:
    """As a socket's, whose key was verified when it was opened."""
    principal = await verified(application, await application.make_key(owner))
    await execute(database, ENDS.get(end, "UPDATE users SET role = 'user'"))

    async with database.unit_of_work(owner.org_id) as session:
        with pytest.raises(Unauthenticated):
            await application.platform.auth.service.require_active(session, principal)


def stranger() -> dict[str, str]:
    return {"Authorization": f"Bearer bwk_Abcd1234_{'x' * 43}"}


@pytest.mark.parametrize(
    "key",
    ["bwk_", "bwk_Abcd1234_", "bwk_Abcd1234", "bwk_é", "bwk_\x7f", "bwk_" + "x" * 20_000, "BWK_Abcd1234_x", "bwk"],
)
async def test_what_is_no_key_is_refused(application: Application, key: str) -> None:
    headers = {b"Authorization": f"Bearer {key}".encode("latin-1")}

    answer = await application.client.get("/users/me", headers=headers)

    assert code_of(answer) == (401, "unauthenticated")


async def test_every_part_of_a_key_counts(application: Application, owner: Person) -> None:
    key = (await make(application, owner)).json()["key"]
    for index in range(len("bwk_"), len(key)):
        changed = key[:index] + ("A" if key[index] != "A" else "B") + key[index + 1 :]
        with pytest.raises(Unauthenticated):
            await application.platform.auth.api_keys.verify_key(changed)


async def test_an_unknown_key_costs_the_one_query_that_a_known_one_does(
    application: Application, owner: Person, database: SavepointDatabase
) -> None:
    key = (await make(application, owner)).json()["key"]
    verify = application.platform.auth.api_keys.verify_key
    await verify(key)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    async with database.superuser() as connection:
        watched = connection.sync_connection
    event.listen(watched, "before_cursor_execute", note)
    try:
        await verify(key)
        known = [statement for statement in statements if "api_keys" in statement]
        statements.clear()
        with pytest.raises(Unauthenticated):
            await verify("bwk_Abcd1234_x")
        unknown = [statement for statement in statements if "api_keys" in statement]
    finally:
        event.remove(watched, "before_cursor_execute", note)

    assert len(known) == 1
    assert unknown == known


async def test_a_key_is_found_by_an_index(database: SavepointDatabase) -> None:
    await execute(database, "SET LOCAL enable_seqscan = off")

    plan = await execute(database, r"EXPLAIN SELECT * FROM api_keys WHERE key_hash = '\x00'::bytea")

    assert "uq_api_keys_key_hash" in "\n".join(plan.scalars())


# Use.


async def last_use(application: Application, owner: Person) -> str | None:
    [item] = (await listed(application, owner))["items"]
    at: str | None = item["last_used_at"]
    return at


async def test_use_is_noted_at_most_once_a_minute(
    application: Application, owner: Person, database: SavepointDatabase
) -> None:
    key = await application.make_key(owner)
    assert await last_use(application, owner) is None

    await whoami(application, key)
    first = await last_use(application, owner)
    await whoami(application, key)
    assert first is not None
    assert datetime.now(UTC) - datetime.fromisoformat(first) < timedelta(minutes=1)
    assert await last_use(application, owner) == first

    await execute(database, "UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'")
    await whoami(application, key)
    assert (await last_use(application, owner) or "") >= first


async def test_use_is_noted_where_the_request_is_refused(application: Application, owner: Person) -> None:
    key = await application.make_key(owner, Role.USER)

    assert (await application.client.get("/knowledge/sources", headers=key.headers)).status_code == 403

    assert await last_use(application, owner) is not None


# What keys may never do.


async def test_no_key_calls_what_a_person_does_in_person(application: Application, owner: Person) -> None:
    """Over the route table: whatever is declared for persons alone, and all of the operators' routes."""
    key = await application.make_key(owner)
    called = set()
    for context in iter_route_contexts(application.app.routes):
        route = context.original_route
        if not isinstance(route, APIRoute):
            continue
        if all(access.by_key for access in declared_access(route.dependant)):
            continue
        path = (context.path or "").replace("{org_id}", str(owner.org_id))
        path = re.sub(r"\{[^}]*\}", str(new_id()), path)
        for method in context.methods or ():
            answer = await application.client.request(method, path, headers=key.headers)
            assert code_of(answer) == (403, "forbidden"), (method, path)
            called.add((method, context.path))
    assert called >= {
        ("PATCH", "/users/me"),
        ("POST", "/orgs/{org_id}/api-keys"),
        ("GET", "/orgs/{org_id}/api-keys"),
        ("DELETE", "/orgs/{org_id}/api-keys/{key_id}"),
        ("GET", "/operator/orgs"),
    }


async def test_a_key_has_no_session_to_end(application: Application, owner: Person) -> None:
    key = await application.make_key(owner)

    assert code_of(await application.client.post("/auth/logout", headers=key.headers)) == (401, "unauthenticated")
    assert (await whoami(application, key)).status_code == 200


# The audit log.


async def test_making_and_ending_a_key_is_audited_without_the_key(application: Application, owner: Person) -> None:
    made = (await make(application, owner)).json()
    await delete(application, owner, made["key_id"])

    created, deleted = [
        entry
        for action in ("api_key.created", "api_key.deleted")
        for entry in await audit_entries(application, owner, action)
    ]

    for entry in (created, deleted):
        assert (entry["actor_id"], entry["target_type"]) == (str(owner.user_id), "api_key")
        assert entry["target_id"] == made["key_id"]
        assert entry["detail"] == {"name": "Library", "prefix": made["prefix"], "role": "expert", "persona_ids": None}
        assert made["key"].removeprefix(made["prefix"]) not in json.dumps(entry)


async def test_a_refused_key_leaves_no_entry(application: Application, owner: Person) -> None:
    admin = await application.add_member(owner.org_id, Role.ADMIN)
    await make(application, admin, role="owner")
    await delete(application, owner, new_id())

    assert await audit_entries(application, owner, "api_key.created") == []
    assert await audit_entries(application, owner, "api_key.deleted") == []


async def test_what_a_key_does_is_audited_with_the_key(application: Application, owner: Person) -> None:
    key = await application.make_key(owner)
    await application.client.get("/operator/orgs", headers=key.headers)

    [denied] = await audit_entries(application, owner, "operator.denied")

    [item] = (await listed(application, owner))["items"]
    assert denied["actor_id"] == str(owner.user_id)
    assert denied["detail"] == {"call": "GET /operator/orgs", "key_id": item["key_id"]}


# At once, on a database where what commits commits.


async def test_of_two_deletions_at_once_one_ends_the_key(committed_database: Database, tmp_path: Path) -> None:
    async with open_application(committed_database, tmp_path) as application:
        owner = await application.register()
        key_id = (await make(application, owner)).json()["key_id"]

        answers = await asyncio.gather(*(delete(application, owner, key_id) for _ in range(4)))

        assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]
        assert len(await audit_entries(application, owner, "api_key.deleted")) == 1


async def test_uses_beside_a_deletion_succeed_or_are_refused_and_none_after_it_succeeds(
    committed_database: Database, tmp_path: Path
) -> None:
    async with open_application(committed_database, tmp_path) as application:
        owner = await application.register()
        key = await application.make_key(owner)
        [item] = (await listed(application, owner))["items"]

        *beside, deleted = await asyncio.gather(
            *(whoami(application, key) for _ in range(8)), delete(application, owner, item["key_id"])
        )

        assert deleted.status_code == 204
        assert {answer.status_code for answer in beside} <= {200, 401}
        assert code_of(await whoami(application, key)) == (401, "unauthenticated")


async def test_a_first_use_by_many_at_once_is_noted_once_for_all(committed_database: Database, tmp_path: Path) -> None:
    async with open_application(committed_database, tmp_path) as application:
        owner = await application.register()
        key = await application.make_key(owner)

        answers = await asyncio.gather(*(whoami(application, key) for _ in range(6)))

        assert [answer.status_code for answer in answers] == [200] * 6
        assert UUID(answers[0].json()["user_id"]) == owner.user_id
        assert await last_use(application, owner) is not None
