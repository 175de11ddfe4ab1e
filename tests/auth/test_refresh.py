"""POST /auth/refresh and /auth/logout."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import text

from bwenge.auth.errors import InvalidRefreshToken, TokenReused
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import member
from tests.auth.conftest import TurnedClock
from tests.support.accounts import EMAIL, PASSWORD, registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, code_of


async def _refresh(client: AsyncClient, token: str) -> Response:
    return await client.post("/auth/refresh", json={"refresh_token": token})


async def _next(client: AsyncClient, token: str) -> str:
    answer = await _refresh(client, token)
    assert answer.status_code == 200
    return str(answer.json()["refresh_token"])


async def test_a_refresh_answers_as_login_does_with_other_tokens(client: AsyncClient, login: dict[str, Any]) -> None:
    answer = await _refresh(client, login["refresh_token"])

    refreshed = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert refreshed.keys() == login.keys()
    assert refreshed["user"] == login["user"]
    assert refreshed["refresh_token"] != login["refresh_token"]
    assert refreshed["access_token"] != login["access_token"]


async def test_refreshed_tokens_stay_in_the_familys_session(
    client: AsyncClient, login: dict[str, Any], feature: AuthFeature
) -> None:
    refreshed = (await _refresh(client, login["refresh_token"])).json()

    verifier = feature.token_verifier
    assert verifier.verify(refreshed["access_token"]).session_id == verifier.verify(login["access_token"]).session_id


async def test_two_logins_are_two_families(client: AsyncClient, login: dict[str, Any], feature: AuthFeature) -> None:
    other = (await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()

    verifier = feature.token_verifier
    assert verifier.verify(other["access_token"]).session_id != verifier.verify(login["access_token"]).session_id


async def test_the_database_holds_no_token_but_its_hash(database: SavepointDatabase, login: dict[str, Any]) -> None:
    async with database.superuser() as connection:
        row = (await connection.execute(text("SELECT token_hash, refresh_tokens::text FROM refresh_tokens"))).one()

    assert len(row.token_hash) == 32
    assert login["refresh_token"] not in row.refresh_tokens


async def test_a_rotated_token_gives_a_sibling_for_ten_seconds_after_its_first_use(
    client: AsyncClient, login: dict[str, Any], clock: TurnedClock
) -> None:
    clock.turn(days=1)
    first = await _next(client, login["refresh_token"])
    clock.turn(seconds=9.5)
    sibling = await _next(client, login["refresh_token"])

    assert len({login["refresh_token"], first, sibling}) == 3
    assert await _next(client, first)
    assert await _next(client, sibling)


async def test_using_a_token_within_its_grace_does_not_prolong_it(
    client: AsyncClient, login: dict[str, Any], clock: TurnedClock
) -> None:
    await _next(client, login["refresh_token"])
    clock.turn(seconds=8)
    await _next(client, login["refresh_token"])
    clock.turn(seconds=8)

    assert code_of(await _refresh(client, login["refresh_token"])) == (401, "token_reused")


async def test_a_token_reused_after_its_grace_revokes_its_family(
    client: AsyncClient, login: dict[str, Any], clock: TurnedClock
) -> None:
    newest = await _next(client, await _next(client, login["refresh_token"]))
    clock.turn(seconds=11)

    assert code_of(await _refresh(client, login["refresh_token"])) == (401, "token_reused")
    assert code_of(await _refresh(client, newest)) == (401, "unauthenticated")


async def test_a_reused_token_is_called_so_each_time(
    client: AsyncClient, login: dict[str, Any], clock: TurnedClock
) -> None:
    await _next(client, login["refresh_token"])
    clock.turn(seconds=11)

    answers = [await _refresh(client, login["refresh_token"]) for _ in range(2)]

    assert [code_of(answer) for answer in answers] == [(401, "token_reused")] * 2


async def test_a_revoked_family_leaves_other_logins_alone(
    client: AsyncClient, login: dict[str, Any], clock: TurnedClock
) -> None:
    other = (await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
    await _next(client, login["refresh_token"])
    clock.turn(seconds=11)
    await _refresh(client, login["refresh_token"])

    assert await _next(client, other["refresh_token"])


async def test_the_revocation_survives_its_401(
    committed_client: AsyncClient, committed_database: Database, clock: TurnedClock
) -> None:
    login = (await committed_client.post("/auth/register", json=registration())).json()
    await _next(committed_client, login["refresh_token"])
    clock.turn(seconds=11)
    await _refresh(committed_client, login["refresh_token"])

    async with committed_database.unit_of_work(PLATFORM) as session:
        left = await session.scalar(text("SELECT count(*) FROM refresh_tokens WHERE revoked_at IS NULL"))
    assert left == 0


async def test_one_token_presented_twice_at_once_gives_two_siblings(committed_client: AsyncClient) -> None:
    login = (await committed_client.post("/auth/register", json=registration())).json()

    first, second = await asyncio.gather(*(_next(committed_client, login["refresh_token"]) for _ in range(2)))

    assert first != second
    assert await _next(committed_client, first)
    assert await _next(committed_client, second)


@pytest.mark.usefixtures("committed_database")
async def test_a_rotation_beside_a_revocation_leaves_no_living_token(
    committed_feature: AuthFeature, clock: TurnedClock
) -> None:
    """The two run at once; whichever is first, nothing issued to the family outlives both."""
    service = committed_feature.service
    for attempt in range(10):
        owner = await service.register(
            org_name="School", name="Owner", email=f"owner{attempt}@school.rw", password=PASSWORD
        )
        newest = await service.refresh(owner.refresh_token)
        clock.turn(seconds=11)

        reused, rotated = await asyncio.gather(
            service.refresh(owner.refresh_token), service.refresh(newest.refresh_token), return_exceptions=True
        )

        assert isinstance(reused, TokenReused)
        if not isinstance(rotated, InvalidRefreshToken):
            assert not isinstance(rotated, BaseException)
            with pytest.raises(InvalidRefreshToken):
                await service.refresh(rotated.refresh_token)


async def test_a_refresh_token_lives_for_seven_days(
    client: AsyncClient, login: dict[str, Any], clock: TurnedClock
) -> None:
    clock.turn(days=6, hours=23)
    successor = await _next(client, login["refresh_token"])
    clock.turn(days=7, seconds=1)

    assert code_of(await _refresh(client, successor)) == (401, "unauthenticated")


@pytest.mark.usefixtures("login")
async def test_login_clears_the_members_expired_tokens_away(
    client: AsyncClient, database: SavepointDatabase, clock: TurnedClock
) -> None:
    clock.turn(days=8)
    await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})

    async with database.superuser() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM refresh_tokens"))).scalar_one() == 1


async def test_a_session_that_is_refreshed_for_weeks_keeps_no_expired_tokens(
    client: AsyncClient, login: dict[str, Any], database: SavepointDatabase, clock: TurnedClock
) -> None:
    token = login["refresh_token"]
    for _ in range(4):
        clock.turn(days=6)
        token = await _next(client, token)

    async with database.superuser() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM refresh_tokens"))).scalar_one() == 2


async def test_a_deactivated_member_cannot_refresh(
    client: AsyncClient, login: dict[str, Any], database: SavepointDatabase
) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false"))

    assert code_of(await _refresh(client, login["refresh_token"])) == (401, "unauthenticated")


async def test_a_refreshed_access_token_carries_the_present_role(
    client: AsyncClient, login: dict[str, Any], database: SavepointDatabase, feature: AuthFeature
) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET role = 'expert'"))

    refreshed = (await _refresh(client, login["refresh_token"])).json()

    assert member(feature.token_verifier.verify(refreshed["access_token"])).role == "expert"
    assert refreshed["user"]["role"] == "expert"


@pytest.mark.parametrize("token", ["unknown", "é", "x" * 512])
async def test_an_unknown_token_is_refused(client: AsyncClient, token: str) -> None:
    assert code_of(await _refresh(client, token)) == (401, "unauthenticated")


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": "x" * 513}, {"refresh_token": None}])
async def test_bad_fields_are_refused(client: AsyncClient, body: dict[str, Any]) -> None:
    assert code_of(await client.post("/auth/refresh", json=body)) == (422, "invalid")


async def test_logout_by_access_token_ends_its_session(client: AsyncClient, login: dict[str, Any]) -> None:
    answer = await client.post("/auth/logout", headers=bearer(login["access_token"]))

    assert (answer.status_code, answer.content) == (204, b"")
    assert code_of(await _refresh(client, login["refresh_token"])) == (401, "unauthenticated")


async def test_logout_by_refresh_token_ends_its_session(client: AsyncClient, login: dict[str, Any]) -> None:
    newest = await _next(client, login["refresh_token"])

    answer = await client.post("/auth/logout", json={"refresh_token": login["refresh_token"]})

    assert answer.status_code == 204
    assert code_of(await _refresh(client, newest)) == (401, "unauthenticated")


async def test_logout_leaves_the_members_other_sessions_alone(client: AsyncClient, login: dict[str, Any]) -> None:
    other = (await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
    await client.post("/auth/logout", headers=bearer(login["access_token"]))

    assert await _next(client, other["refresh_token"])


async def test_logout_by_refresh_token_works_after_the_access_token_expired(
    client: AsyncClient, login: dict[str, Any]
) -> None:
    answer = await client.post(
        "/auth/logout", headers=bearer("expired"), json={"refresh_token": login["refresh_token"]}
    )

    assert answer.status_code == 204
    assert code_of(await _refresh(client, login["refresh_token"])) == (401, "unauthenticated")


async def test_logging_out_twice_is_no_error(client: AsyncClient, login: dict[str, Any]) -> None:
    answers = [await client.post("/auth/logout", headers=bearer(login["access_token"])) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]


async def test_an_unknown_refresh_token_has_no_session_to_end(client: AsyncClient) -> None:
    assert (await client.post("/auth/logout", json={"refresh_token": "unknown"})).status_code == 204


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}])
async def test_logout_needs_a_token(client: AsyncClient, headers: dict[str, str]) -> None:
    assert code_of(await client.post("/auth/logout", headers=headers)) == (401, "unauthenticated")
