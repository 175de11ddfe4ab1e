"""Operators: their accounts and sessions, what they may not call, and what stays of members who try their routes."""

import re
from pathlib import Path
from typing import Any

import jwt
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from httpx2 import Response
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from bwenge.auth.errors import CommonPassword, EmailTaken
from bwenge.auth.models import User
from bwenge.kit.errors import NotFound
from bwenge.kit.http import dependencies
from bwenge.kit.http.rates import declared_rates
from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from tests.support.accounts import registration
from tests.support.application import PASSWORD, Application, Person, open_application
from tests.support.audit import audited
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, code_of

EMAIL = "ineza@bwenge.example"


@pytest.fixture
async def login(application: Application) -> dict[str, Any]:
    """The answer to an operator's login."""
    await application.platform.auth.operators.create(EMAIL, name="Ineza", password=PASSWORD)
    answer = await application.client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    login: dict[str, Any] = answer.json()
    return login


@pytest.fixture
def headers(login: dict[str, Any]) -> dict[str, str]:
    return bearer(login["access_token"])


async def organisations(application: Application, headers: dict[str, str], **params: Any) -> Response:
    return await application.client.get("/operator/orgs", headers=headers, params=params)


async def deactivate(database: SavepointDatabase, user_id: object) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false WHERE id = :id"), {"id": str(user_id)})


def routes_of(application: Application, callers: str) -> list[tuple[str, str, APIRoute]]:
    """Methods and paths of what is declared for those callers, with unknown ids in the paths."""
    return [
        (method, re.sub(r"\{[^}]*\}", str(new_id()), context.path or ""), route)
        for context in iter_route_contexts(application.app.routes)
        if isinstance(route := context.original_route, APIRoute)
        for access in declared_access(route.dependant)
        if access.callers == callers
        for method in context.methods or ()
    ]


# Accounts and sessions.


async def test_an_operator_logs_in_as_everybody_and_is_in_no_organisation(login: dict[str, Any]) -> None:
    user = login["user"]

    assert (user["role"], user["org_id"], user["email"], user["name"]) == ("operator", None, EMAIL, "Ineza")
    claims = jwt.decode(login["access_token"], options={"verify_signature": False})
    assert claims["role"] == "operator"
    assert "org_id" not in claims


async def test_an_operators_session_is_refreshed_and_ended(application: Application, login: dict[str, Any]) -> None:
    refreshed = await application.client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert (refreshed.status_code, refreshed.json()["user"]) == (200, login["user"])

    ended = await application.client.post("/auth/logout", headers=bearer(refreshed.json()["access_token"]))

    assert ended.status_code == 204
    after = await application.client.post("/auth/refresh", json={"refresh_token": refreshed.json()["refresh_token"]})
    assert code_of(after) == (401, "unauthenticated")


async def test_an_operator_sees_and_changes_their_own_profile(
    application: Application, login: dict[str, Any], headers: dict[str, str]
) -> None:
    shown = await application.client.get("/users/me", headers=headers)
    changed = await application.client.patch("/users/me", headers=headers, json={"name": "Ineza U.", "language": "fr"})

    assert (shown.status_code, shown.json()) == (200, login["user"])
    assert (changed.status_code, changed.json()) == (200, login["user"] | {"name": "Ineza U.", "language": "fr"})
    assert (await application.client.get("/users/me", headers=headers)).json() == changed.json()


async def test_an_operator_sets_a_new_password_and_every_other_session_ends(
    application: Application, login: dict[str, Any], headers: dict[str, str], database: SavepointDatabase
) -> None:
    other = await application.client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    body = {"current_password": PASSWORD, "new_password": "inyoni zo mu gishanga"}

    wrong = await application.client.post("/auth/password", headers=headers, json=body | {"current_password": "x"})
    changed = await application.client.post("/auth/password", headers=headers, json=body)

    assert code_of(wrong) == (401, "invalid_credentials")
    assert changed.status_code == 204
    sessions = [
        (await application.client.post("/auth/refresh", json={"refresh_token": session["refresh_token"]})).status_code
        for session in (login, other.json())
    ]
    assert sessions == [200, 401]
    for password, status in ((PASSWORD, 401), (body["new_password"], 200)):
        answer = await application.client.post("/auth/login", json={"email": EMAIL, "password": password})
        assert answer.status_code == status
    [entry] = await audited(database, action="password.changed")
    assert (entry.org_id, entry.actor_id) == (None, login["user"]["user_id"])


async def test_an_operator_who_is_let_in_no_more_has_no_session_left(
    application: Application, login: dict[str, Any], headers: dict[str, str], database: SavepointDatabase
) -> None:
    await application.platform.auth.operators.deactivate(EMAIL.upper())

    for answer in (
        await application.client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]}),
        await organisations(application, headers),
    ):
        assert code_of(answer) == (401, "unauthenticated")
    [entry] = await audited(database, action="operator.deactivated")
    assert entry.target_id == login["user"]["user_id"]


async def test_only_active_operators_are_deactivated(application: Application) -> None:
    owner = await application.register()
    mail = (await application.client.get("/users/me", headers=owner.headers)).json()["email"]

    for email in (mail, "nobody@bwenge.example"):
        with pytest.raises(NotFound):
            await application.platform.auth.operators.deactivate(email)

    assert (await application.client.get("/users/me", headers=owner.headers)).status_code == 200


@pytest.mark.parametrize("password", ["password1", "ineza@bwenge.example"])
async def test_an_operators_password_is_not_easily_guessed(application: Application, password: str) -> None:
    with pytest.raises(CommonPassword):
        await application.platform.auth.operators.create(EMAIL, name="Ineza", password=password)


async def test_a_deactivated_operator_is_refused_everywhere_at_once(
    application: Application, login: dict[str, Any], headers: dict[str, str], database: SavepointDatabase
) -> None:
    await deactivate(database, login["user"]["user_id"])

    for answer in (
        await application.client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]}),
        await application.client.get("/users/me", headers=headers),
        await organisations(application, headers),
    ):
        assert code_of(answer) == (401, "unauthenticated")
    again = await application.client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert code_of(again) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    ("email", "name", "password", "told"),
    [
        ("ineza", "Ineza", PASSWORD, "email address"),
        (EMAIL, "", PASSWORD, "name"),
        (EMAIL, "Ineza", "short", "8 to 128"),
        (EMAIL, "Ineza", "x" * 129, "8 to 128"),
    ],
)
async def test_a_wrong_account_is_refused_in_words(
    application: Application, email: str, name: str, password: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        await application.platform.auth.operators.create(email, name=name, password=password)


async def test_an_address_has_one_account_of_whatever_kind(application: Application, login: dict[str, Any]) -> None:
    taken = await application.client.post("/auth/register", json=registration(email=login["user"]["email"]))

    assert code_of(taken) == (409, "email_taken")
    with pytest.raises(EmailTaken):
        await application.platform.auth.operators.create(EMAIL.upper(), name="Ineza", password=PASSWORD)


async def test_making_an_operator_is_audited_in_the_platforms_own_log(
    database: SavepointDatabase, login: dict[str, Any]
) -> None:
    async with database.superuser() as connection:
        entry = (await connection.execute(text("SELECT * FROM audit_log WHERE action LIKE 'operator.%'"))).one()

    assert (entry.org_id, entry.action, entry.target_id) == (None, "operator.created", login["user"]["user_id"])


@pytest.mark.parametrize(("role", "has_org"), [("operator", True), ("user", False), ("owner", False)])
async def test_the_database_holds_no_operator_in_an_organisation_and_no_member_outside(
    application: Application, database: SavepointDatabase, role: str, *, has_org: bool
) -> None:
    owner = await application.register()
    change = text("UPDATE users SET role = :role, org_id = :org_id")

    async with database.superuser() as connection:
        with pytest.raises(IntegrityError, match="ck_users_operator"):
            async with connection.begin_nested():
                await connection.execute(change, {"role": role, "org_id": owner.org_id if has_org else None})


@pytest.mark.usefixtures("login")
async def test_no_organisation_sees_an_operator(application: Application, database: SavepointDatabase) -> None:
    owner = await application.register()

    async with database.unit_of_work(owner.org_id) as session:
        assert list(await session.scalars(select(User.id))) == [owner.user_id]


# What operators and members may not call.


async def test_each_route_of_members_refuses_an_operator(application: Application, headers: dict[str, str]) -> None:
    routes = routes_of(application, "members")

    assert len(routes) > 10
    for method, path, _ in routes:
        assert code_of(await application.client.request(method, path, headers=headers)) == (403, "forbidden"), path


async def test_each_route_of_operators_refuses_everybody_else(application: Application) -> None:
    owner = await application.register()
    members = [owner, *[await application.add_member(owner.org_id, role) for role in Role if role is not Role.OWNER]]
    routes = routes_of(application, "operators")

    assert {path for _, path, _ in routes} >= {"/operator/orgs"}
    for method, path, _ in routes:
        assert code_of(await application.client.request(method, path)) == (401, "unauthenticated"), path
        for member in [*members, await application.make_key(owner)]:
            answer = await application.client.request(method, path, headers=member.headers)
            assert code_of(answer) == (403, "forbidden"), (path, member.role)


def test_each_route_of_operators_asks_whether_they_are_active(application: Application) -> None:
    def asks(dependant: Dependant) -> bool:
        return dependant.call is dependencies._active_operator or any(map(asks, dependant.dependencies))

    assert [path for _, path, route in routes_of(application, "operators") if not asks(route.dependant)] == []


def test_each_route_of_operators_counts_an_attempt_before_it_is_refused_and_kept(application: Application) -> None:
    for _, path, route in routes_of(application, "operators"):
        asked = route.dependant.dependencies
        [rate] = [place for place, part in enumerate(asked) if declared_rates(part)]
        [access] = [place for place, part in enumerate(asked) if declared_access(part)]
        assert rate < access, path


# What stays of an attempt.


async def denials(application: Application, owner: Person) -> list[dict[str, Any]]:
    answer = await application.client.get(f"/orgs/{owner.org_id}/audit", headers=owner.headers)
    return [entry for entry in answer.json()["items"] if entry["action"] == "operator.denied"]


async def test_a_members_attempt_stays_in_the_log_of_their_own_organisation(application: Application) -> None:
    owner, elsewhere = await application.register(), await application.register()
    learner = await application.add_member(owner.org_id, Role.USER)

    await organisations(application, learner.headers, q="Kigali")

    [entry] = await denials(application, owner)
    assert (entry["actor_id"], entry["detail"]) == (str(learner.user_id), {"call": "GET /operator/orgs"})
    assert await denials(application, elsewhere) == []


async def test_a_flood_of_attempts_does_not_fill_the_log(database: SavepointDatabase, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"rate_limits": True, "rate_limit_overrides": {"OPERATOR": "2/minute"}}
    async with open_application(database, tmp_path, **limits) as application:
        owner = await application.register()
        answers = [await organisations(application, owner.headers) for _ in range(3)]
        [(method, path, _), *_] = [
            route for route in routes_of(application, "operators") if route[1] != "/operator/orgs"
        ]
        answers.append(await application.client.request(method, path, headers=owner.headers))

        assert [answer.status_code for answer in answers] == [403, 403, 429, 429]
        assert len(await denials(application, owner)) == 2


async def test_an_operators_own_call_leaves_no_denial(application: Application, headers: dict[str, str]) -> None:
    owner = await application.register()

    assert (await organisations(application, headers)).status_code == 200

    assert await denials(application, owner) == []


async def test_the_attempt_of_one_who_is_no_member_any_more_is_refused_with_401(
    application: Application, database: SavepointDatabase
) -> None:
    owner = await application.register()
    learner = await application.add_member(owner.org_id, Role.USER)
    await deactivate(database, learner.user_id)

    assert code_of(await organisations(application, learner.headers)) == (401, "unauthenticated")
    assert await denials(application, owner) == []


async def test_an_attempt_from_a_deleted_organisation_is_refused_with_401(
    application: Application, database: SavepointDatabase
) -> None:
    owner = await application.register()
    async with database.superuser() as connection:
        await connection.execute(text("DELETE FROM organizations WHERE id = :id"), {"id": owner.org_id})

    assert code_of(await organisations(application, owner.headers)) == (401, "unauthenticated")


# All organisations.


async def test_organisations_are_listed_with_their_active_members(
    application: Application, headers: dict[str, str], database: SavepointDatabase
) -> None:
    owner = await application.register()
    for role in (Role.EXPERT, Role.USER):
        await application.add_member(owner.org_id, role)
    gone = await application.add_member(owner.org_id, Role.USER)
    await deactivate(database, gone.user_id)

    [item] = (await organisations(application, headers)).json()["items"]

    assert item == {
        "org_id": str(owner.org_id),
        "name": item["name"],
        "time_zone": "Africa/Kigali",
        "language": "en",
        "created_at": item["created_at"],
        "members": 3,
    }
    assert item["name"].startswith("School ")
    assert item["created_at"].endswith("Z")


async def test_organisations_come_page_by_page_newest_first(application: Application, headers: dict[str, str]) -> None:
    made = [str((await application.register()).org_id) for _ in range(3)]

    page = (await organisations(application, headers, limit=2)).json()
    rest = (await organisations(application, headers, limit=2, cursor=page["next_cursor"])).json()

    assert [item["org_id"] for item in page["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("huye", ["Lycée de Huye"]),
        ("LYCÉE", ["Lycée de Huye"]),
        ("100%", ["100% Kigali_A"]),
        ("%", ["100% Kigali_A"]),
        ("_", ["100% Kigali_A"]),
        ("nowhere", []),
        ("\\", []),
    ],
)
async def test_organisations_are_found_by_a_part_of_their_names(
    application: Application, headers: dict[str, str], q: str, found: list[str]
) -> None:
    for number, name in enumerate(["Lycée de Huye", "100% Kigali_A"]):
        body = registration(org_name=name, email=f"owner{number}@school.example", username=None)
        assert (await application.client.post("/auth/register", json=body)).status_code == 201

    assert [item["name"] for item in (await organisations(application, headers, q=q)).json()["items"]] == found


@pytest.mark.parametrize("query", [{"q": "nul\x00"}, {"q": "x" * 121}, {"limit": 0}, {"cursor": "x"}])
async def test_a_malformed_question_is_refused(
    application: Application, headers: dict[str, str], query: dict[str, Any]
) -> None:
    assert code_of(await organisations(application, headers, **query)) == (422, "invalid")
