"""Groups over HTTP: who has which, who may be in them, and what is kept of it in the audit log."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from bwenge.kit.identity import Role
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

NOBODY: Final = uuid4()


@dataclass(frozen=True)
class School:
    """A member of each role, a second teacher, and two learners."""

    application: Application
    owner: Person
    admin: Person
    teacher: Person
    colleague: Person
    learner: Person
    classmate: Person

    async def call(self, person: Person, method: str, path: str = "", body: Any = None) -> Any:
        """A route below the organisation's groups."""
        url = f"/orgs/{self.owner.org_id}/groups{path}"
        return await self.application.client.request(method, url, headers=person.headers, json=body)

    async def actions(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Of the audit log, oldest first: what was done to groups, to which, and the detail."""
        url = f"/orgs/{self.owner.org_id}/audit"
        entries = (await self.application.client.get(url, headers=self.owner.headers)).json()["items"]
        of_groups = [entry for entry in reversed(entries) if entry["target_type"] == "group"]
        return [(entry["action"], entry["target_id"], entry["detail"]) for entry in of_groups]


async def found_school(application: Application) -> School:
    owner = await application.register()
    roles = (Role.ADMIN, Role.EXPERT, Role.EXPERT, Role.USER, Role.USER)
    return School(application, owner, *[await application.add_member(owner.org_id, role) for role in roles])


@pytest.fixture
async def school(application: Application) -> School:
    return await found_school(application)


@pytest.fixture
async def committed_school(committed_application: Application) -> School:
    return await found_school(committed_application)


async def test_who_makes_a_group_teaches_it(school: School) -> None:
    answer = await school.call(school.teacher, "POST", body={"name": "  S2 A "})

    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == {"group_id", "name", "owner_id", "created_at", "updated_at"}
    assert (made["name"], made["owner_id"]) == ("S2 A", str(school.teacher.user_id))
    assert (await school.call(school.teacher, "GET", f"/{made['group_id']}")).json() == made


@pytest.mark.parametrize("maker", ["owner", "admin"])
async def test_administrators_make_groups_for_any_teacher(school: School, maker: str) -> None:
    body = {"name": "S2 A", "owner_id": str(school.teacher.user_id)}
    made = (await school.call(getattr(school, maker), "POST", body=body)).json()

    assert made["owner_id"] == str(school.teacher.user_id)
    assert (await school.call(school.teacher, "GET", f"/{made['group_id']}")).status_code == 200


async def test_a_group_is_owned_by_an_active_expert_or_above_whom_the_caller_may_name(school: School) -> None:
    teacher_id, learner_id = school.teacher.user_id, school.learner.user_id
    group_id = await school.application.create_group(school.teacher)
    for person, owner_id, status in (
        (school.teacher, teacher_id, 201),
        (school.teacher, school.colleague.user_id, 403),
        (school.teacher, school.owner.user_id, 403),
        (school.teacher, NOBODY, 404),
        (school.admin, school.admin.user_id, 201),
        (school.admin, school.owner.user_id, 201),
        (school.admin, learner_id, 422),
        (school.admin, NOBODY, 404),
    ):
        body = {"name": "S2 A", "owner_id": str(owner_id)}
        assert (await school.call(person, "POST", body=body)).status_code == status, (person.role, owner_id)
        if status >= 400:
            answer = await school.call(person, "PATCH", f"/{group_id}", body)
            assert answer.status_code == status, (person.role, owner_id)


async def test_an_expert_has_own_groups_and_another_s_is_as_unknown(school: School) -> None:
    persona_id = await school.application.create_persona(school.colleague)
    group_id = await school.application.create_group(school.colleague, learners=[school.learner], personas=[persona_id])
    learner, persona = {"user_id": str(school.classmate.user_id)}, {"persona_id": str(persona_id)}

    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine"}),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("POST", "/members", learner),
        ("PUT", f"/members/{school.classmate.user_id}", None),
        ("DELETE", f"/members/{school.learner.user_id}", None),
        ("GET", "/personas", None),
        ("POST", "/personas", persona),
        ("DELETE", f"/personas/{persona_id}", None),
    ):
        answers = [await school.call(school.teacher, method, f"/{id_}{path}", body) for id_ in (group_id, NOBODY)]
        problems = [{**answer.json(), "request_id": ""} for answer in answers]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        assert problems[0] == problems[1]
        if method == "GET":
            assert (await school.call(school.admin, method, f"/{group_id}{path}", body)).status_code == 200
    assert (await school.call(school.teacher, "GET")).json()["items"] == []


async def test_learners_have_no_groups_to_look_at(school: School) -> None:
    group_id = await school.application.create_group(school.teacher, learners=[school.learner])

    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{group_id}"), ("GET", f"/{group_id}/members")):
        assert (await school.call(school.learner, method, path, {"name": "S"})).status_code == 403


async def test_groups_are_listed_newest_first_by_pages_and_experts_see_their_own(school: School) -> None:
    makers = (school.teacher, school.colleague, school.teacher)
    made = [str(await school.application.create_group(maker)) for maker in makers]

    first = (await school.call(school.admin, "GET", "?limit=2")).json()
    second = (await school.call(school.admin, "GET", f"?limit=2&cursor={first['next_cursor']}")).json()
    own = (await school.call(school.teacher, "GET")).json()

    assert [item["group_id"] for page in (first, second) for item in page["items"]] == made[::-1]
    assert second["next_cursor"] is None
    assert [item["group_id"] for item in own["items"]] == [made[2], made[0]]


async def test_a_group_is_renamed_and_given_to_another_teacher(school: School) -> None:
    group_id = await school.application.create_group(school.teacher)
    before = (await school.call(school.teacher, "GET", f"/{group_id}")).json()

    renamed = (await school.call(school.teacher, "PATCH", f"/{group_id}", {"name": "S3 B"})).json()
    body = {"owner_id": str(school.colleague.user_id), "name": None}
    given = (await school.call(school.admin, "PATCH", f"/{group_id}", body)).json()

    assert (renamed["name"], renamed["owner_id"]) == ("S3 B", before["owner_id"])
    assert renamed["updated_at"] > before["updated_at"]
    assert (given["name"], given["owner_id"]) == ("S3 B", str(school.colleague.user_id))
    assert (await school.call(school.teacher, "GET", f"/{group_id}")).status_code == 404
    assert (await school.call(school.colleague, "GET", f"/{group_id}")).status_code == 200


async def test_a_deleted_group_is_gone_and_its_learners_and_personas_stay(school: School) -> None:
    persona_id = await school.application.create_persona(school.teacher)
    group_id = await school.application.create_group(school.teacher, learners=[school.learner], personas=[persona_id])

    assert (await school.call(school.teacher, "DELETE", f"/{group_id}")).status_code == 204

    assert (await school.call(school.teacher, "GET", f"/{group_id}")).status_code == 404
    for person, path in ((school.learner, "/users/me"), (school.learner, f"/personas/{persona_id}")):
        assert (await school.application.client.get(path, headers=person.headers)).status_code == 200


async def test_several_learners_come_in_at_once_and_twice_is_as_once(school: School) -> None:
    group_id = await school.application.create_group(school.teacher, learners=[school.learner])
    both = sorted(str(learner.user_id) for learner in (school.learner, school.classmate))

    for added in ([str(school.classmate.user_id)], []):
        answer = await school.call(school.teacher, "POST", f"/{group_id}/members", {"user_ids": both})
        assert answer.status_code == 201
        assert answer.json() == {"group_id": str(group_id), "user_ids": both, "added": added}

    first = (await school.call(school.teacher, "GET", f"/{group_id}/members?limit=1")).json()
    second = (await school.call(school.teacher, "GET", f"/{group_id}/members?cursor={first['next_cursor']}")).json()
    listed = [item for page in (first, second) for item in page["items"]]
    assert [item["user_id"] for item in listed] == both[::-1]
    me = (await school.application.client.get("/users/me", headers=school.learner.headers)).json()
    assert me in listed


async def test_one_learner_is_put_in_and_taken_out(school: School) -> None:
    group_id = await school.application.create_group(school.teacher)
    path = f"/{group_id}/members/{school.learner.user_id}"

    statuses = [
        (await school.call(school.teacher, method, path)).status_code for method in ("PUT", "PUT", "DELETE", "DELETE")
    ]

    assert statuses == [204, 204, 204, 404]
    assert (await school.call(school.teacher, "GET", f"/{group_id}/members")).json()["items"] == []


async def test_who_is_no_learner_any_more_is_in_no_list_of_a_class(school: School) -> None:
    group_id = await school.application.create_group(school.teacher, learners=[school.learner, school.classmate])
    path = f"/orgs/{school.owner.org_id}/members/{school.learner.user_id}"
    changed = await school.application.client.patch(path, headers=school.owner.headers, json={"role": "admin"})
    assert changed.status_code == 200

    listed = (await school.call(school.teacher, "GET", f"/{group_id}/members")).json()["items"]

    assert [item["user_id"] for item in listed] == [str(school.classmate.user_id)]


async def test_of_learners_one_of_whom_cannot_join_none_does(school: School, database: SavepointDatabase) -> None:
    group_id = await school.application.create_group(school.teacher)
    stranger = await school.application.add_member((await school.application.register()).org_id, Role.USER)
    async with database.superuser() as connection:
        await connection.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": school.classmate.user_id}
        )

    for user_id, status in (
        (NOBODY, 404),
        (stranger.user_id, 404),
        (school.classmate.user_id, 404),
        (school.colleague.user_id, 422),
        (school.admin.user_id, 422),
        (school.teacher.user_id, 422),
    ):
        body = {"user_ids": [str(school.learner.user_id), str(user_id)]}
        assert (await school.call(school.teacher, "POST", f"/{group_id}/members", body)).status_code == status
        answer = await school.call(school.teacher, "PUT", f"/{group_id}/members/{user_id}")
        assert answer.status_code == status
    assert (await school.call(school.teacher, "GET", f"/{group_id}/members")).json()["items"] == []


async def test_an_expert_lets_in_nobody_whom_only_others_teach(school: School) -> None:
    make, learner, classmate = school.application.create_group, school.learner, school.classmate
    theirs = await make(school.colleague, learners=[learner])
    own = await make(school.teacher, learners=[classmate])

    async def refusals(user_id: UUID) -> list[dict[str, Any]]:
        answers = [
            await school.call(school.teacher, "PUT", f"/{own}/members/{user_id}"),
            await school.call(school.teacher, "POST", f"/{own}/members", {"user_id": str(user_id)}),
            await school.call(
                school.teacher, "POST", f"/{own}/members", {"user_ids": [str(classmate.user_id), str(user_id)]}
            ),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        return [answer.json() | {"request_id": ""} for answer in answers]

    assert await refusals(learner.user_id) == await refusals(NOBODY)
    reset = f"/orgs/{school.owner.org_id}/members/{learner.user_id}/reset"
    assert (await school.application.client.post(reset, headers=school.teacher.headers)).status_code == 404
    # Nor whom nobody teaches any more, where a class is left.
    await school.application.client.delete(
        f"/orgs/{school.owner.org_id}/members/{school.colleague.user_id}", headers=school.owner.headers
    )
    assert (await school.call(school.teacher, "PUT", f"/{own}/members/{learner.user_id}")).status_code == 404

    # An administrator may; and whom they teach already they let into further classes.
    for person, group_id in ((school.admin, own), (school.teacher, await make(school.teacher))):
        assert (await school.call(person, "PUT", f"/{group_id}/members/{learner.user_id}")).status_code == 204
    assert (await school.call(school.admin, "GET", f"/{theirs}/members")).json()["items"] != []


async def test_personas_are_put_into_a_group_and_taken_out(school: School) -> None:
    group_id = await school.application.create_group(school.teacher)
    personas = [str(await school.application.create_persona(school.teacher)) for _ in range(2)]

    answers = [
        await school.call(school.teacher, "POST", f"/{group_id}/personas", body)
        for body in ({"persona_id": personas[0]}, {"persona_ids": personas})
    ]
    first = (await school.call(school.teacher, "GET", f"/{group_id}/personas?limit=1")).json()
    second = (await school.call(school.teacher, "GET", f"/{group_id}/personas?cursor={first['next_cursor']}")).json()
    removed = [await school.call(school.teacher, "DELETE", f"/{group_id}/personas/{personas[0]}") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].json() == {"group_id": str(group_id), "persona_ids": personas, "added": personas[1:]}
    assert [item for page in (first, second) for item in page["items"]] == [
        {"persona_id": persona_id} for persona_id in personas[::-1]
    ]
    assert [answer.status_code for answer in removed] == [204, 404]


async def test_an_expert_puts_only_own_personas_into_classes(school: School) -> None:
    """Whether or not it is in a class already: who sees it is its owner's to decide, or an administrator's."""
    make, join = school.application.create_group, school.application.join
    lone, grouped = [await school.application.create_persona(school.colleague) for _ in range(2)]
    await make(school.colleague, personas=[grouped])
    own = await school.application.create_persona(school.teacher)
    group_id = await make(school.teacher, learners=[school.learner])
    path = f"/{group_id}/personas"

    for persona_id in (lone, grouped):
        for body in ({"persona_id": str(persona_id)}, {"persona_ids": [str(own), str(persona_id)]}):
            refused = await school.call(school.teacher, "POST", path, body)
            assert code_of(refused) == (403, "forbidden")
            assert "ask them or an administrator" in refused.json()["detail"]

    assert (await school.call(school.teacher, "GET", path)).json()["items"] == []
    for person, persona_id in ((school.teacher, own), (school.admin, lone), (school.owner, grouped)):
        await join(person, group_id, "personas", persona_id=persona_id)


async def test_a_deleted_persona_is_in_no_group_and_comes_into_none(school: School) -> None:
    persona_id = await school.application.create_persona(school.teacher)
    group_id = await school.application.create_group(school.teacher, personas=[persona_id])

    await school.application.client.delete(f"/personas/{persona_id}", headers=school.teacher.headers)

    assert (await school.call(school.teacher, "GET", f"/{group_id}/personas")).json()["items"] == []
    body = {"persona_id": str(persona_id)}
    assert (await school.call(school.teacher, "POST", f"/{group_id}/personas", body)).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {}),
        ("", {"name": " "}),
        ("", {"name": "S" * 500}),
        ("", {"name": "S2", "colour": "red"}),
        ("/{}/members", {}),
        ("/{}/members", {"user_ids": []}),
        ("/{}/members", {"user_ids": [str(NOBODY)] * 201}),
        ("/{}/members", {"user_id": str(NOBODY), "user_ids": [str(NOBODY)]}),
        ("/{}/personas", {"persona_ids": []}),
        ("/{}/personas", {"persona_ids": [str(NOBODY)] * 51}),
        ("/{}/personas", {"persona_id": str(NOBODY), "persona_ids": [str(NOBODY)]}),
    ],
)
async def test_a_malformed_body_is_refused(school: School, path: str, body: dict[str, Any]) -> None:
    group_id = await school.application.create_group(school.teacher)

    assert (await school.call(school.teacher, "POST", path.format(group_id), body)).status_code == 422


async def test_every_act_is_in_the_audit_log_and_what_changed_nothing_is_not(school: School) -> None:
    persona_id = str(await school.application.create_persona(school.teacher))
    group_id = str(await school.application.create_group(school.teacher))
    learner_id = str(school.learner.user_id)
    for method, path, body in (
        ("PATCH", "", {"name": "S3"}),
        ("PATCH", "", {"name": "S3", "owner_id": str(school.teacher.user_id)}),
        ("POST", "/members", {"user_id": learner_id}),
        ("PUT", f"/members/{learner_id}", None),
        ("POST", "/personas", {"persona_id": persona_id}),
        ("POST", "/personas", {"persona_id": persona_id}),
        ("DELETE", f"/members/{learner_id}", None),
        ("DELETE", f"/personas/{persona_id}", None),
        ("DELETE", f"/members/{learner_id}", None),
        ("DELETE", "", None),
    ):
        await school.call(school.teacher, method, f"/{group_id}{path}", body)

    assert await school.actions() == [
        ("group.created", group_id, {"name": "S2 A", "owner_id": str(school.teacher.user_id)}),
        ("group.changed", group_id, {"name": "S3"}),
        ("group.members_added", group_id, {"user_ids": [learner_id]}),
        ("group.personas_added", group_id, {"persona_ids": [persona_id]}),
        ("group.member_removed", group_id, {"user_id": learner_id}),
        ("group.persona_removed", group_id, {"persona_id": persona_id}),
        ("group.deleted", group_id, {"name": "S3"}),
    ]


# At the same moment.


async def test_a_learner_put_in_from_two_sides_is_added_once(committed_school: School) -> None:
    school = committed_school
    group_id = await school.application.create_group(school.teacher)
    body = {"user_ids": [str(school.learner.user_id), str(school.classmate.user_id)]}

    answers = await asyncio.gather(
        *(school.call(person, "POST", f"/{group_id}/members", body) for person in (school.teacher, school.admin) * 2)
    )

    assert [answer.status_code for answer in answers] == [201] * 4
    assert sum(len(answer.json()["added"]) for answer in answers) == 2
    assert len((await school.call(school.teacher, "GET", f"/{group_id}/members")).json()["items"]) == 2


async def test_of_two_experts_who_let_in_the_same_learners_one_does(committed_school: School) -> None:
    school = committed_school
    rivals = (school.teacher, school.colleague)
    for _ in range(5):
        learners = [await school.application.add_member(school.owner.org_id, Role.USER) for _ in range(2)]
        groups = [await school.application.create_group(rival) for rival in rivals]
        body = {"user_ids": [str(learner.user_id) for learner in learners]}

        answers = await asyncio.gather(
            *(
                school.call(rival, "POST", f"/{group_id}/members", body)
                for rival, group_id in zip(rivals, groups, strict=True)
            )
        )

        assert sorted(answer.status_code for answer in answers) == [201, 404]


async def test_a_persona_deleted_while_it_is_put_into_groups_is_in_none(committed_school: School) -> None:
    school = committed_school
    persona_id = await school.application.create_persona(school.teacher)
    groups = [await school.application.create_group(school.teacher) for _ in range(4)]
    body = {"persona_id": str(persona_id)}

    *answers, deleted = await asyncio.gather(
        *(school.call(school.teacher, "POST", f"/{group_id}/personas", body) for group_id in groups),
        school.application.client.delete(f"/personas/{persona_id}", headers=school.teacher.headers),
    )

    assert deleted.status_code == 204
    assert {answer.status_code for answer in answers} <= {201, 404}
    for group_id in groups:
        assert (await school.call(school.teacher, "GET", f"/{group_id}/personas")).json()["items"] == []


async def test_a_learner_removed_while_they_are_put_in_is_in_no_class(committed_school: School) -> None:
    school = committed_school
    for _ in range(5):
        learner = await school.application.add_member(school.owner.org_id, Role.USER)
        group_id = await school.application.create_group(school.admin)
        path = f"/orgs/{school.owner.org_id}/members/{learner.user_id}"
        await asyncio.gather(
            school.application.client.delete(path, headers=school.owner.headers),
            school.call(school.admin, "PUT", f"/{group_id}/members/{learner.user_id}"),
        )
        members = await school.call(school.admin, "GET", f"/{group_id}/members")
        assert members.json()["items"] == []


async def test_a_group_deleted_while_learners_come_in_is_as_unknown_to_the_late(committed_school: School) -> None:
    school = committed_school
    group_id = await school.application.create_group(school.teacher)
    body = {"user_id": str(school.learner.user_id)}

    deleted, *answers = await asyncio.gather(
        school.call(school.teacher, "DELETE", f"/{group_id}"),
        *(school.call(school.admin, "POST", f"/{group_id}/members", body) for _ in range(4)),
    )

    assert deleted.status_code == 204
    assert {answer.status_code for answer in answers} <= {201, 404}
    assert (await school.call(school.admin, "GET", f"/{group_id}/members")).status_code == 404
