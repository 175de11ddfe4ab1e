"""Who may call what: the contract's matrix, the declarations of the routes, and what really is answered."""

import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import httpx2
import pytest

from bwenge.kit.http.rates import declared_rates
from bwenge.kit.http.security import Access, declared_access
from bwenge.kit.identity import Caller, Operator, Role, TokenVerifier
from tests.support.application import Application, Person
from tests.support.routes import Route, routes_of

ANYONE, HOLDER, SIGNED_IN, OPERATOR = "anyone", "holder", "any", "operator"
LEARNER, EXPERT, ADMIN, OWNER = "member", "expert+", "admin+", "owner"

MATRIX: Final[dict[tuple[str, str], str]] = {
    ("GET", "/"): ANYONE,
    ("GET", "/.well-known/jwks.json"): ANYONE,
    ("POST", "/ai/respond"): LEARNER,
    ("POST", "/auth/login"): ANYONE,
    ("POST", "/auth/logout"): HOLDER,
    ("POST", "/auth/password"): SIGNED_IN,
    ("POST", "/auth/password/forgot"): ANYONE,
    ("POST", "/auth/password/reset"): HOLDER,
    ("POST", "/auth/refresh"): HOLDER,
    ("POST", "/auth/register"): ANYONE,
    ("GET", "/health"): ANYONE,
    ("GET", "/health/ready"): ANYONE,
    ("GET", "/jobs/{job_id}"): SIGNED_IN,
    ("POST", "/knowledge/search"): EXPERT,
    ("GET", "/knowledge/sources"): EXPERT,
    ("POST", "/knowledge/upload"): EXPERT,
    ("GET", "/knowledge/workers"): ADMIN,
    ("DELETE", "/knowledge/{source_id}"): EXPERT,
    ("GET", "/knowledge/{source_id}/chunks"): EXPERT,
    ("GET", "/knowledge/{source_id}/file"): HOLDER,
    ("HEAD", "/knowledge/{source_id}/file"): HOLDER,
    ("GET", "/knowledge/{source_id}/status"): EXPERT,
    ("GET", "/metrics"): ANYONE,
    ("GET", "/operator/orgs"): OPERATOR,
    ("POST", "/operator/orgs/{org_id}/grant"): OPERATOR,
    ("DELETE", "/orgs/{org_id}"): OWNER,
    ("GET", "/orgs/{org_id}"): LEARNER,
    ("PATCH", "/orgs/{org_id}"): OWNER,
    ("GET", "/orgs/{org_id}/api-keys"): ADMIN,
    ("POST", "/orgs/{org_id}/api-keys"): ADMIN,
    ("DELETE", "/orgs/{org_id}/api-keys/{key_id}"): ADMIN,
    ("GET", "/orgs/{org_id}/audit"): ADMIN,
    ("POST", "/orgs/{org_id}/export"): OWNER,
    ("GET", "/orgs/{org_id}/exports/{export_id}/file"): HOLDER,
    ("GET", "/orgs/{org_id}/groups"): EXPERT,
    ("POST", "/orgs/{org_id}/groups"): EXPERT,
    ("DELETE", "/orgs/{org_id}/groups/{group_id}"): EXPERT,
    ("GET", "/orgs/{org_id}/groups/{group_id}"): EXPERT,
    ("PATCH", "/orgs/{org_id}/groups/{group_id}"): EXPERT,
    ("GET", "/orgs/{org_id}/groups/{group_id}/members"): EXPERT,
    ("POST", "/orgs/{org_id}/groups/{group_id}/members"): EXPERT,
    ("DELETE", "/orgs/{org_id}/groups/{group_id}/members/{user_id}"): EXPERT,
    ("PUT", "/orgs/{org_id}/groups/{group_id}/members/{user_id}"): EXPERT,
    ("GET", "/orgs/{org_id}/groups/{group_id}/personas"): EXPERT,
    ("POST", "/orgs/{org_id}/groups/{group_id}/personas"): EXPERT,
    ("DELETE", "/orgs/{org_id}/groups/{group_id}/personas/{persona_id}"): EXPERT,
    ("GET", "/orgs/{org_id}/invitations"): ADMIN,
    ("DELETE", "/orgs/{org_id}/invitations/{invite_id}"): ADMIN,
    ("POST", "/orgs/{org_id}/invite"): ADMIN,
    ("GET", "/orgs/{org_id}/join-links"): EXPERT,
    ("POST", "/orgs/{org_id}/join-links"): EXPERT,
    ("DELETE", "/orgs/{org_id}/join-links/{join_link_id}"): EXPERT,
    ("GET", "/orgs/{org_id}/members"): EXPERT,
    ("POST", "/orgs/{org_id}/members/import"): ADMIN,
    ("DELETE", "/orgs/{org_id}/members/{user_id}"): ADMIN,
    ("PATCH", "/orgs/{org_id}/members/{user_id}"): ADMIN,
    ("POST", "/orgs/{org_id}/members/{user_id}/reset"): EXPERT,
    ("GET", "/orgs/{org_id}/sessions/stats"): ADMIN,
    ("GET", "/personas"): LEARNER,
    ("POST", "/personas"): EXPERT,
    ("DELETE", "/personas/{persona_id}"): EXPERT,
    ("GET", "/personas/{persona_id}"): LEARNER,
    ("PUT", "/personas/{persona_id}"): EXPERT,
    ("POST", "/personas/{persona_id}/settings"): EXPERT,
    ("GET", "/plans"): ANYONE,
    ("GET", "/sessions"): LEARNER,
    ("DELETE", "/sessions/{session_id}"): LEARNER,
    ("GET", "/sessions/{session_id}/messages"): LEARNER,
    ("GET", "/subscriptions/current"): LEARNER,
    ("GET", "/users/me"): SIGNED_IN,
    ("PATCH", "/users/me"): SIGNED_IN,
}
"""Each route and the least role of the contract."""

RATES: Final[dict[tuple[str, str], str]] = {
    ("POST", "/ai/respond"): "60/minute by user",
    ("POST", "/auth/login"): "300/minute by address",
    ("POST", "/auth/logout"): "600/minute by address",
    ("POST", "/auth/password"): "5/minute by user",
    ("POST", "/auth/password/forgot"): "100/minute by address",
    ("POST", "/auth/password/reset"): "100/minute by address",
    ("POST", "/auth/refresh"): "600/minute by address",
    ("POST", "/auth/register"): "300/minute by address",
    ("POST", "/knowledge/search"): "60/minute by user",
    ("GET", "/knowledge/sources"): "100/minute by user",
    ("POST", "/knowledge/upload"): "10/minute by user",
    ("DELETE", "/knowledge/{source_id}"): "20/minute by user",
    ("GET", "/knowledge/{source_id}/status"): "100/minute by user",
    ("GET", "/operator/orgs"): "100/minute by user",
    ("POST", "/operator/orgs/{org_id}/grant"): "100/minute by user",
    ("POST", "/orgs/{org_id}/invite"): "10/minute by user",
    ("GET", "/orgs/{org_id}/members"): "50/minute by user",
    ("POST", "/orgs/{org_id}/members/import"): "10/minute by user",
    ("DELETE", "/orgs/{org_id}/members/{user_id}"): "50/minute by user",
    ("PATCH", "/orgs/{org_id}/members/{user_id}"): "50/minute by user",
    ("POST", "/orgs/{org_id}/members/{user_id}/reset"): "50/minute by user",
    ("GET", "/personas"): "100/minute by user",
    ("POST", "/personas"): "20/minute by user",
    ("DELETE", "/personas/{persona_id}"): "20/minute by user",
    ("GET", "/personas/{persona_id}"): "100/minute by user",
    ("PUT", "/personas/{persona_id}"): "20/minute by user",
    ("POST", "/personas/{persona_id}/settings"): "20/minute by user",
    ("GET", "/users/me"): "100/minute by user",
    ("PATCH", "/users/me"): "100/minute by user",
}
"""The limits that the contract documents, of the routes that declare one."""

LEAST: Final = {LEARNER: Role.USER, EXPERT: Role.EXPERT, ADMIN: Role.ADMIN, OWNER: Role.OWNER}


@dataclass
class School:
    members: dict[Role, Person]

    @property
    def org_id(self) -> UUID:
        return self.members[Role.OWNER].org_id


@pytest.fixture
async def school(application: Application) -> School:
    owner = await application.register()
    others = {role: await application.add_member(owner.org_id, role) for role in Role if role is not Role.OWNER}
    return School(others | {Role.OWNER: owner})


def access_of(route: Route) -> Access:
    [access] = declared_access(route.dependant)
    return access


async def call(application: Application, route: Route, headers: dict[str, str], *, org_id: UUID) -> httpx2.Response:
    """With ids that name nothing but the caller's own organisation, and without a body."""
    path = re.sub(r"\{[^}]*\}", lambda name: str(org_id if name[0] == "{org_id}" else uuid4()), route.path)
    return await application.client.request(route.method, path, headers=headers)


def test_each_route_declares_the_role_of_the_contract_and_declares_it_once(application: Application) -> None:
    declared = {
        route.key: [str(access) for access in declared_access(route.dependant)] for route in routes_of(application.app)
    }
    assert declared == {key: [least] for key, least in MATRIX.items()}


def test_each_documented_limit_is_declared(application: Application) -> None:
    declared = {
        route.key: [f"{rate.rate} by {rate.by}" for rate in declared_rates(route.dependant)]
        for route in routes_of(application.app)
    }
    assert {key: rates for key, rates in declared.items() if rates} == {key: [rate] for key, rate in RATES.items()}


async def test_without_a_token_only_open_routes_answer(application: Application) -> None:
    for route in routes_of(application.app):
        status = (await call(application, route, {}, org_id=uuid4())).status_code
        if access_of(route).callers == "anyone":
            assert status not in {401, 403}, route.key
        elif access_of(route).callers == "holder":
            assert status in {401, 422}, route.key
        else:
            assert status == 401, route.key


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_is_refused_what_is_above_it_and_nothing_else(
    application: Application, school: School, role: Role
) -> None:
    person = school.members[role]
    for route in routes_of(application.app):
        least = LEAST.get(MATRIX[route.key])
        if least is None and MATRIX[route.key] != OPERATOR:
            continue
        if route.key == ("DELETE", "/orgs/{org_id}"):
            # What ends the school is tried in a test of its own.
            continue
        status = (await call(application, route, person.headers, org_id=school.org_id)).status_code
        is_admitted = least is not None and role.at_least(least)
        assert (status not in {401, 403}) is is_admitted, (route.key, status)
        assert is_admitted or status == 403, (route.key, status)


class EverybodyIsAnOperator:
    def verify(self, token: str) -> Caller:  # noqa: ARG002  # the signature is the original's
        return Operator(uuid4())


async def test_an_operator_is_no_member_of_any_organisation(application: Application, school: School) -> None:
    verifier: TokenVerifier = application.app.state.token_verifier
    application.app.state.token_verifier = EverybodyIsAnOperator()
    try:
        for route in routes_of(application.app):
            if access_of(route).callers == "members":
                status = (
                    await call(application, route, {"Authorization": "Bearer x"}, org_id=school.org_id)
                ).status_code
                assert status == 403, route.key
    finally:
        application.app.state.token_verifier = verifier


async def test_what_everybody_who_signed_in_may_call_an_operator_may_call(application: Application) -> None:
    headers = await application.add_operator()
    for route in routes_of(application.app):
        if access_of(route).callers in {"signed_in", "operators"}:
            status = (await call(application, route, headers, org_id=uuid4())).status_code
            assert status not in {401, 403}, (route.key, status)


def test_the_document_shows_who_may_call_and_how_each_is_refused(application: Application) -> None:
    document: dict[str, Any] = application.app.openapi()
    for route in routes_of(application.app):
        if not route.is_documented:
            continue
        operation = document["paths"][route.path][route.method.lower()]
        access = access_of(route)
        refusals = {
            status for status, answer in operation["responses"].items() if "application/problem+json" in str(answer)
        }
        assert operation["x-bwenge-access"] == MATRIX[route.key]
        assert list(operation.get("x-bwenge-rates", {}).values()) == [RATES[key] for key in [route.key] if key in RATES]
        expected = {"401"} if access.callers != "anyone" else set()
        expected |= {"403"} if access.callers in {"members", "operators", "signed_in"} else set()
        expected |= {"429"} if declared_rates(route.dependant) else set()
        expected |= {"404"} if "{" in route.path else set()
        assert expected <= refusals, route.key
