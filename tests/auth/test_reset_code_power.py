"""A code to set a password with is worth no more than the power over the account that it was issued under."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from bwenge.kit.identity import Role
from tests.support.application import Application, Person

NEW = "inyoni zo mu gishanga"


@dataclass(frozen=True)
class School:
    application: Application
    owner: Person
    admin: Person
    teacher: Person
    learner: Person

    async def code(self, issuer: Person, member: Person) -> str:
        path = f"/orgs/{issuer.org_id}/members/{member.user_id}/reset"
        answer = await self.application.client.post(path, headers=issuer.headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["code"])

    async def change(self, member: Person, **changes: Any) -> None:
        path = f"/orgs/{member.org_id}/members/{member.user_id}"
        answer = await self.application.client.patch(path, headers=self.owner.headers, json=changes)
        assert answer.status_code == 200, answer.text

    async def remove(self, member: Person) -> None:
        path = f"/orgs/{member.org_id}/members/{member.user_id}"
        assert (await self.application.client.delete(path, headers=self.owner.headers)).status_code == 204

    async def use(self, code: str, member: Person) -> int:
        users = await self.application.client.get(f"/orgs/{self.owner.org_id}/members", headers=self.owner.headers)
        [name] = [user["username"] for user in users.json()["items"] if user["user_id"] == str(member.user_id)]
        body = {"username": name, "code": code, "new_password": NEW}
        return (await self.application.client.post("/auth/password/reset", json=body)).status_code


async def found_school(application: Application) -> School:
    owner = await application.register()
    admin, teacher, learner = [
        await application.add_member(owner.org_id, role) for role in (Role.ADMIN, Role.EXPERT, Role.USER)
    ]
    await application.create_group(teacher)
    return School(application, owner, admin, teacher, learner)


@pytest.fixture
async def school(application: Application) -> School:
    return await found_school(application)


@pytest.fixture
async def committed_school(committed_application: Application) -> School:
    return await found_school(committed_application)


async def test_a_code_sets_the_password_while_nobodys_role_changes(school: School) -> None:
    assert await school.use(await school.code(school.admin, school.teacher), school.teacher) == 204


@pytest.mark.parametrize("role", ["owner", "admin", "user"])
async def test_a_member_who_gets_another_role_is_not_taken_over_by_an_older_code(school: School, role: str) -> None:
    code = await school.code(school.admin, school.teacher)
    await school.change(school.teacher, role=role)

    assert await school.use(code, school.teacher) == 401


@pytest.mark.parametrize("changes", [{"role": "expert"}, {"role": "user"}, {"is_active": False}])
async def test_who_lost_the_power_to_issue_a_code_has_no_use_of_it(school: School, changes: dict[str, Any]) -> None:
    code = await school.code(school.admin, school.learner)
    await school.change(school.admin, **changes)

    assert await school.use(code, school.learner) == 401


async def test_the_codes_of_a_removed_administrator_are_gone(school: School) -> None:
    code = await school.code(school.admin, school.learner)
    await school.remove(school.admin)

    assert await school.use(code, school.learner) == 401


async def test_a_new_name_ends_no_code(school: School) -> None:
    code = await school.code(school.admin, school.learner)
    await school.change(school.learner, name="Keza")
    await school.change(school.admin, name="Mugabo")

    assert await school.use(code, school.learner) == 204


async def test_a_code_that_is_issued_while_its_issuer_is_deactivated_is_of_no_use(committed_school: School) -> None:
    school = committed_school
    path = f"/orgs/{school.owner.org_id}/members/{school.learner.user_id}/reset"
    for _ in range(5):
        issued, _ = await asyncio.gather(
            school.application.client.post(path, headers=school.admin.headers),
            school.change(school.admin, is_active=False),
        )
        if issued.status_code == 200:
            assert await school.use(issued.json()["code"], school.learner) == 401
        await school.change(school.admin, is_active=True)
