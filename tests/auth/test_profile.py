"""GET and PATCH /users/me, the key set, and what the feature says of itself in OpenAPI."""

from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import text

from bwenge.auth.wiring import AuthFeature
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import Principal, Role, member
from bwenge.kit.ids import new_id
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, code_of


async def test_a_member_sees_themselves(client: AsyncClient, login: dict[str, Any]) -> None:
    answer = await client.get("/users/me", headers=bearer(login["access_token"]))

    assert (answer.status_code, answer.json()) == (200, login["user"])


@pytest.mark.parametrize("changes", [{"name": "Aline U."}, {"language": "rw"}, {"name": "Aline", "language": "fr"}, {}])
async def test_a_member_changes_what_they_name_and_nothing_else(
    client: AsyncClient, login: dict[str, Any], changes: dict[str, str]
) -> None:
    headers = bearer(login["access_token"])

    answer = await client.patch("/users/me", json=changes, headers=headers)

    assert answer.status_code == 200
    assert answer.json() == {**login["user"], **changes}
    assert (await client.get("/users/me", headers=headers)).json() == answer.json()


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "owner"},
        {"is_active": False},
        {"org_id": "018f0000-0000-7000-8000-000000000001"},
        {"email": "other@gs-kimironko.rw"},
        {"name": ""},
        {"name": "nul\x00"},
        {"language": "de"},
    ],
)
async def test_a_member_changes_nothing_beyond_their_name_and_language(
    client: AsyncClient, login: dict[str, Any], changes: dict[str, Any]
) -> None:
    headers = bearer(login["access_token"])

    answer = await client.patch("/users/me", json=changes, headers=headers)

    assert code_of(answer) == (422, "invalid")
    assert (await client.get("/users/me", headers=headers)).json() == login["user"]


async def test_null_changes_nothing(client: AsyncClient, login: dict[str, Any]) -> None:
    answer = await client.patch(
        "/users/me", json={"name": None, "language": None}, headers=bearer(login["access_token"])
    )

    assert (answer.status_code, answer.json()) == (200, login["user"])


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_without_a_token_there_is_no_profile(client: AsyncClient, method: str) -> None:
    answer = await client.request(method, "/users/me", json={} if method == "PATCH" else None)

    assert code_of(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_deactivated_members_access_token_stops_working(
    client: AsyncClient, login: dict[str, Any], database: SavepointDatabase
) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false"))

    answer = await client.get("/users/me", headers=bearer(login["access_token"]))

    assert code_of(answer) == (401, "unauthenticated")


async def test_an_active_member_passes(
    login: dict[str, Any], feature: AuthFeature, database: SavepointDatabase
) -> None:
    principal = member(feature.token_verifier.verify(login["access_token"]))

    async with database.unit_of_work(principal.org_id) as session:
        await feature.service.require_active(session, principal)


async def test_a_member_of_another_organisation_does_not_pass(
    login: dict[str, Any], feature: AuthFeature, database: SavepointDatabase
) -> None:
    own = feature.token_verifier.verify(login["access_token"])
    elsewhere = Principal(user_id=own.user_id, org_id=new_id(), role=Role.OWNER)

    async with database.unit_of_work(elsewhere.org_id) as session:
        with pytest.raises(Unauthenticated):
            await feature.service.require_active(session, elsewhere)


async def test_a_created_member_logs_in_with_a_username_alone(
    client: AsyncClient, login: dict[str, Any], feature: AuthFeature
) -> None:
    org_id = UUID(login["user"]["org_id"])
    await feature.service.create_member(org_id, name="Keza", role=Role.USER, username="keza.p5", password="umunyeshuri")

    answer = await client.post("/auth/login", json={"username": "keza.p5", "password": "umunyeshuri"})

    user = answer.json()["user"]
    assert (user["role"], user["email"], user["org_id"]) == ("user", None, str(org_id))


async def test_an_organisation_is_registered_without_http(client: AsyncClient, feature: AuthFeature) -> None:
    owner = await feature.service.register_organization(
        org_name="Demo School", name="Demo Owner", email="Owner@Demo.example", password="a demo password"
    )

    answer = await client.post("/auth/login", json={"email": "owner@demo.example", "password": "a demo password"})

    assert (answer.json()["user"]["user_id"], owner.role) == (str(owner.id), "owner")


async def test_a_wrong_identifier_is_refused_without_http_too(feature: AuthFeature) -> None:
    with pytest.raises(ValueError, match="not an email address"):
        await feature.service.register_organization(org_name="S", name="N", email="owner", password="a demo password")


@pytest.mark.usefixtures("login")
async def test_the_key_set_verifies_an_access_token(client: AsyncClient, feature: AuthFeature) -> None:
    answer = await client.get("/.well-known/jwks.json")

    [key] = answer.json()["keys"]
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert key == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
        "kid": feature.keys.kid,
        "x": key["x"],
    }
