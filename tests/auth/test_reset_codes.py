"""POST /orgs/{org_id}/members/{user_id}/reset: a code to show, and POST /auth/password/reset with it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import text

from bwenge.auth import recovery
from bwenge.auth.models import Group, GroupMember
from bwenge.auth.recovery import LETTERS
from bwenge.auth.tokens import AccessTokenIssuer
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.auth.conftest import TurnedClock
from tests.support.accounts import EMAIL, registration
from tests.support.audit import audited
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, code_of

NEW = "inyoni zo mu gishanga"
OLD = "imvura y'itumba"


class School:
    """An organisation with a member of each role, and two experts, of whom each teaches one learner."""

    def __init__(self, client: AsyncClient, feature: AuthFeature, database: Database, owner: dict[str, Any]) -> None:
        self.client = client
        self.org_id = UUID(owner["user"]["org_id"])
        self.ids = {"owner": UUID(owner["user"]["user_id"])}
        self.roles = {"owner": Role.OWNER}
        self._feature = feature
        self._database = database

    async def add(self, name: str, role: Role) -> None:
        user = await self._feature.service.create_member(
            self.org_id, name=name.title(), role=role, username=f"{name}.member", password=OLD
        )
        self.ids[name], self.roles[name] = user.id, role

    async def teach(self, expert: str, learner: str) -> None:
        group = Group(id=new_id(), org_id=self.org_id, name="S2 A", owner_id=self.ids[expert])
        async with self._database.unit_of_work(self.org_id) as session:
            session.add(group)
            await session.flush()
            session.add(GroupMember(group_id=group.id, user_id=self.ids[learner], org_id=self.org_id))

    async def issue(self, caller: str, member: str | UUID) -> Response:
        principal = Principal(user_id=self.ids[caller], org_id=self.org_id, role=self.roles[caller])
        token = AccessTokenIssuer(self._feature.keys).issue(principal, family_id=new_id())
        user_id = self.ids[member] if isinstance(member, str) else member
        return await self.client.post(f"/orgs/{self.org_id}/members/{user_id}/reset", headers=bearer(token))

    async def code(self, member: str = "pupil") -> str:
        answer = await self.issue("owner", member)
        assert answer.status_code == 200
        return str(answer.json()["code"])

    async def reset(self, code: str, *, username: str = "pupil.member", new: str = NEW) -> Response:
        return await self.client.post(
            "/auth/password/reset", json={"username": username, "code": code, "new_password": new}
        )

    async def log_in(self, password: str, *, username: str = "pupil.member") -> Response:
        return await self.client.post("/auth/login", json={"username": username, "password": password})


async def _school(client: AsyncClient, feature: AuthFeature, database: Database) -> School:
    owner = (await client.post("/auth/register", json=registration())).json()
    school = School(client, feature, database, owner)
    for name, role in (
        ("admin", Role.ADMIN),
        ("deputy", Role.ADMIN),
        ("teacher", Role.EXPERT),
        ("colleague", Role.EXPERT),
        ("pupil", Role.USER),
        ("stranger", Role.USER),
    ):
        await school.add(name, role)
    await school.teach("teacher", "pupil")
    await school.teach("colleague", "stranger")
    return school


@pytest.fixture
async def school(client: AsyncClient, feature: AuthFeature, database: SavepointDatabase) -> School:
    return await _school(client, feature, database)


@pytest.fixture
async def committed_school(
    committed_client: AsyncClient, committed_feature: AuthFeature, committed_database: Database
) -> School:
    return await _school(committed_client, committed_feature, committed_database)


async def test_a_code_is_short_unambiguous_and_shown_once(school: School, database: SavepointDatabase) -> None:
    answer = await school.issue("teacher", "pupil")

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    assert body.keys() == {"code", "expires_at"}
    assert len(body["code"]) == 8
    assert set(body["code"]) <= set(LETTERS)
    assert not set("01ILO") & set(LETTERS)
    assert body["expires_at"].endswith("Z")
    async with database.superuser() as connection:
        stored = (await connection.execute(text("SELECT code_hash FROM password_reset_codes"))).scalar_one()
    assert stored.startswith("$argon2id$")
    assert body["code"] not in str(await audited(database))


@pytest.mark.parametrize(
    ("caller", "member", "status"),
    [
        ("owner", "admin", 200),
        ("owner", "pupil", 200),
        ("admin", "deputy", 200),
        ("admin", "teacher", 200),
        ("admin", "stranger", 200),
        ("admin", "owner", 403),
        ("admin", "admin", 403),
        ("owner", "owner", 403),
        ("teacher", "pupil", 200),
        ("teacher", "stranger", 404),
        ("teacher", "colleague", 404),
        ("teacher", "teacher", 404),
        ("teacher", "admin", 404),
        ("teacher", "owner", 404),
        ("pupil", "stranger", 403),
        ("pupil", "pupil", 403),
    ],
)
async def test_who_may_show_a_code_to_whom(school: School, caller: str, member: str, status: int) -> None:
    assert (await school.issue(caller, member)).status_code == status


async def test_an_expert_who_teaches_another_expert_shows_them_no_code(school: School) -> None:
    await school.teach("teacher", "colleague")

    assert (await school.issue("teacher", "colleague")).status_code == 404


async def test_an_unknown_and_a_deactivated_member_get_nothing(school: School, database: SavepointDatabase) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false WHERE username = 'pupil.member'"))

    assert code_of(await school.issue("owner", new_id())) == (404, "not_found")
    assert code_of(await school.issue("owner", "pupil")) == (404, "not_found")


async def test_a_code_sets_the_password_once_and_ends_every_session(school: School) -> None:
    session = (await school.log_in(OLD)).json()
    code = await school.code()
    answer = await school.reset(code)

    assert (answer.status_code, answer.content) == (204, b"")
    assert [(await school.log_in(password)).status_code for password in (OLD, NEW)] == [401, 200]
    refreshed = await school.client.post("/auth/refresh", json={"refresh_token": session["refresh_token"]})
    assert refreshed.status_code == 401
    assert code_of(await school.reset(code)) == (401, "invalid_reset")


@pytest.mark.parametrize("typed", [" {0} ", "{1}-{2}", "{3}", "{1} {2}"])
async def test_a_code_is_taken_however_it_is_typed(school: School, typed: str) -> None:
    code = await school.code()

    answer = await school.reset(typed.format(code, code[:4], code[4:], code.lower()))

    assert answer.status_code == 204


async def test_a_classmates_wrong_guesses_leave_a_code_as_it_is(school: School) -> None:
    code = await school.code()
    for _ in range(20):
        assert code_of(await school.reset("AAAAAAAA")) == (401, "invalid_reset")

    assert (await school.reset(code)).status_code == 204


async def test_a_code_bears_so_many_wrong_guesses_and_no_more(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "MOST_TRIES", 5)
    for guesses, answer in ((4, 204), (5, 401)):
        code = await school.code()
        for _ in range(guesses):
            await school.reset("AAAAAAAA")
        assert (await school.reset(code)).status_code == answer


async def test_wrong_guesses_at_the_same_moment_have_the_tries_together(
    committed_school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MOST_TRIES", 5)
    code = await committed_school.code()
    await asyncio.gather(*(committed_school.reset("AAAAAAAA") for _ in range(6)))

    assert code_of(await committed_school.reset(code)) == (401, "invalid_reset")


async def test_of_two_who_use_one_code_at_once_one_sets_the_password(committed_school: School) -> None:
    code = await committed_school.code()
    answers = await asyncio.gather(*(committed_school.reset(code, new=f"{NEW} {number}") for number in range(3)))

    assert sorted(answer.status_code for answer in answers) == [204, 401, 401]


async def test_a_refused_password_uses_no_try_up(school: School) -> None:
    code = await school.code()
    for easy in ("password1", "pupil.member") * 4:
        assert code_of(await school.reset(code, new=easy)) == (422, "invalid")

    assert (await school.reset(code)).status_code == 204


async def test_a_code_works_for_a_day(school: School, clock: TurnedClock) -> None:
    code = await school.code()
    clock.turn(hours=23, minutes=59)
    assert (await school.reset(code)).status_code == 204
    late = await school.code()
    clock.turn(hours=24, seconds=1)

    assert code_of(await school.reset(late)) == (401, "invalid_reset")


async def test_a_new_code_takes_the_last_ones_place(school: School) -> None:
    first = await school.code()
    second = await school.code()

    assert code_of(await school.reset(first)) == (401, "invalid_reset")
    assert (await school.reset(second)).status_code == 204


async def test_a_code_is_of_one_member_alone(school: School) -> None:
    code = await school.code("pupil")

    assert code_of(await school.reset(code, username="stranger.member")) == (401, "invalid_reset")
    assert code_of(await school.reset(code, username="nobody.at.all")) == (401, "invalid_reset")


async def test_a_member_with_an_email_address_names_themselves_by_it(school: School) -> None:
    answer = await school.issue("admin", "deputy")

    assert (await school.reset(answer.json()["code"], username="deputy.member")).status_code == 204
    assert code_of(await school.reset("AAAAAAAA", username=EMAIL)) == (401, "invalid_reset")


async def test_a_member_deactivated_meanwhile_sets_no_password(school: School, database: SavepointDatabase) -> None:
    code = await school.code()
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false WHERE username = 'pupil.member'"))

    assert code_of(await school.reset(code)) == (401, "invalid_reset")


async def test_what_was_shown_tried_and_done_is_noted(school: School, database: SavepointDatabase) -> None:
    answer = await school.issue("teacher", "pupil")
    await school.reset("AAAAAAAA")
    await school.reset("AAAAAAAA", username="nobody.at.all")
    await school.reset(answer.json()["code"])

    org_id, pupil, teacher = str(school.org_id), str(school.ids["pupil"]), str(school.ids["teacher"])
    noted = [entry for entry in await audited(database) if entry.action.startswith("password.")]
    assert [(entry.action, entry.org_id, entry.actor_id, entry.target_id) for entry in noted] == [
        ("password.code_issued", org_id, teacher, pupil),
        ("password.reset_refused", org_id, None, pupil),
        ("password.reset", org_id, pupil, pupil),
    ]
    assert noted[-1].detail == {"by": "code"}
