"""Join links: learners open accounts of their own, in the class that the link names."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text

from bwenge.auth import member_queries
from bwenge.auth.models import Group, GroupMember
from bwenge.kit.identity import Role
from tests.auth.conftest import TurnedClock
from tests.support.feature_app import code_of
from tests.support.memberships import School, link_body


async def _attends(school: School, user_id: str) -> list[UUID]:
    async with school.database.unit_of_work(school.org_id) as session:
        rows = await session.scalars(select(GroupMember.group_id).where(GroupMember.user_id == UUID(user_id)))
        return list(rows)


async def test_a_link_has_the_fields_of_the_contract(school: School) -> None:
    answer = await school.expert.post(school.path("/join-links"), link_body(group_id=str(school.group_id)))

    link = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert link["url"] == f"https://bwenge.test/app/join?join={link['join_token']}"
    assert (link["max_uses"], link["uses"], link["role"], link["group_id"]) == (40, 0, "user", str(school.group_id))


@pytest.mark.parametrize("account", [{"username": "keza.m"}, {"email": "keza@x.rw"}])
async def test_who_joins_is_a_learner_in_the_links_class(school: School, account: dict[str, str]) -> None:
    link = await school.make_link(group_id=str(school.group_id))

    answer = await school.register(join_token=link["join_token"], **account)
    user = answer.json()["user"]

    assert answer.status_code == 201
    assert (user["role"], user["org_id"]) == ("user", str(school.org_id))
    assert user.items() >= account.items()
    assert await _attends(school, user["user_id"]) == [school.group_id]
    [listed] = (await school.expert.get(school.path("/join-links"))).json()["items"]
    assert listed["uses"] == 1


async def test_a_link_without_a_class_leads_into_none(school: School) -> None:
    link = await school.make_link()

    user = (await school.register(join_token=link["join_token"], username="keza.m")).json()["user"]

    assert await _attends(school, user["user_id"]) == []


async def test_who_joins_needs_a_name_to_sign_in_with(school: School) -> None:
    link = await school.make_link()

    assert code_of(await school.register(join_token=link["join_token"])) == (422, "invalid")


async def test_unknown_expired_revoked_and_used_up_links_answer_alike(school: School, clock: TurnedClock) -> None:
    expired = (await school.make_link(expires_at=(clock() + timedelta(days=1)).isoformat()))["join_token"]
    clock.turn(days=1, seconds=1)
    revoked = await school.make_link()
    await school.expert.delete(school.path(f"/join-links/{revoked['join_link_id']}"))
    used_up = (await school.make_link(max_uses=1))["join_token"]
    joined = await school.register(join_token=used_up, username="first.one")

    refusals = [
        await school.register(join_token=token, username="second.one")
        for token in ("unknown", expired, revoked["join_token"], used_up)
    ]

    assert joined.status_code == 201
    assert len({tuple(sorted((answer.json() | {"request_id": ""}).items())) for answer in refusals}) == 1
    assert code_of(refusals[0]) == (422, "invalid_invitation")


async def test_a_refused_registration_uses_nothing_up(school: School) -> None:
    token = (await school.make_link(max_uses=1))["join_token"]
    await school.register(username="keza.m", email="keza@x.rw", org_name="Another School")

    taken = await school.register(join_token=token, username="Keza.M")

    assert code_of(taken) == (409, "username_taken")
    assert (await school.register(join_token=token, username="keza.n")).status_code == 201


async def test_an_expert_names_only_a_class_of_their_own(school: School) -> None:
    group_id = await school.add_group(school.colleague)

    answers = [
        await caller.post(school.path("/join-links"), link_body(group_id=str(wanted)))
        for caller in (school.expert, school.admin)
        for wanted in (group_id, uuid4())
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 201, 404]


async def test_an_expert_sees_and_revokes_no_colleagues_links(school: School) -> None:
    own, other = await school.make_link(school.expert), await school.make_link(school.colleague)

    async def listed(caller: Role) -> list[str]:
        items = (await school.by_role(caller).get(school.path("/join-links"))).json()["items"]
        assert all("join_token" not in item for item in items)
        return [item["join_link_id"] for item in items]

    assert await listed(Role.EXPERT) == [own["join_link_id"]]
    assert await listed(Role.ADMIN) == [other["join_link_id"], own["join_link_id"]]
    refused = await school.expert.delete(school.path(f"/join-links/{other['join_link_id']}"))
    revoked = await school.admin.delete(school.path(f"/join-links/{other['join_link_id']}"))
    assert (code_of(refused), revoked.status_code) == ((404, "not_found"), 204)


async def test_with_another_owner_a_class_loses_the_former_ones_links(school: School) -> None:
    into: dict[str, Any] = {"group_id": str(school.group_id)}
    former, kept = await school.make_link(**into), await school.make_link()
    by_admin = await school.make_link(school.admin, **into)
    path = school.path(f"/groups/{school.group_id}")

    renamed = await school.expert.call("PATCH", path, {"name": "S1 B"})
    assert (renamed.status_code, len(await _links(school))) == (200, 3)
    given = await school.admin.call("PATCH", path, {"owner_id": str(school.colleague.principal.user_id)})
    joined = [
        (await school.register(join_token=link["join_token"], username=f"keza.{number}")).status_code
        for number, link in enumerate((former, kept, by_admin))
    ]

    assert given.status_code == 200
    assert joined == [422, 201, 201]
    [changed] = [entry for entry in await school.audited() if "owner_id" in entry["detail"]]
    assert changed["detail"]["join_links_ended"] == 1


async def test_an_administrators_links_outlive_their_ownership_of_the_class(school: School) -> None:
    group_id = await school.add_group(school.admin)
    link = await school.make_link(school.admin, group_id=str(group_id))

    await school.owner.call(
        "PATCH", school.path(f"/groups/{group_id}"), {"owner_id": str(school.expert.principal.user_id)}
    )

    assert [item["join_link_id"] for item in await _links(school)] == [link["join_link_id"]]


async def test_an_expert_sees_and_revokes_every_link_into_own_classes(school: School) -> None:
    links = [await school.make_link(maker, group_id=str(school.group_id)) for maker in (school.admin, school.owner)]
    await school.make_link(school.admin)
    await school.make_link(school.admin, group_id=str(await school.add_group(school.colleague)))

    listed = (await school.expert.get(school.path("/join-links"))).json()["items"]
    revoked = await school.expert.delete(school.path(f"/join-links/{links[0]['join_link_id']}"))

    assert [item["join_link_id"] for item in listed] == [link["join_link_id"] for link in links[::-1]]
    assert revoked.status_code == 204
    assert links[0]["join_link_id"] not in {item["join_link_id"] for item in await _links(school)}


async def test_links_go_page_by_page(school: School) -> None:
    made = [(await school.make_link())["join_link_id"] for _ in range(3)]

    first = (await school.expert.get(school.path("/join-links?limit=2"))).json()
    second = (await school.expert.get(school.path(f"/join-links?limit=2&cursor={first['next_cursor']}"))).json()

    assert [item["join_link_id"] for item in first["items"] + second["items"]] == made[::-1]


async def test_learners_have_nothing_to_do_with_links(school: School) -> None:
    answers = [
        await school.learner.post(school.path("/join-links"), link_body()),
        await school.learner.get(school.path("/join-links")),
        await school.learner.delete(school.path(f"/join-links/{uuid4()}")),
    ]

    assert [code_of(answer) for answer in answers] == [(403, "forbidden")] * 3


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"role": "expert"}, id="another role"),
        pytest.param({"max_uses": 0}, id="no uses"),
        pytest.param({"max_uses": 10_001}, id="too many uses"),
        pytest.param({"max_uses": None}, id="uses left out"),
        pytest.param({"expires_at": None}, id="no end"),
        pytest.param({"expires_at": "2027-01-01T00:00:00"}, id="no time zone"),
        pytest.param({"expires_at": datetime(2020, 1, 1, tzinfo=UTC).isoformat()}, id="past"),
        pytest.param({"expires_at": (datetime.now(UTC) + timedelta(days=400)).isoformat()}, id="too far"),
        pytest.param({"group_id": "S1 A"}, id="no id"),
    ],
)
async def test_bad_fields_are_refused(school: School, changes: dict[str, Any]) -> None:
    answer = await school.expert.post(school.path("/join-links"), link_body(**changes))

    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"] == next(iter(changes))


async def test_what_is_done_with_links_is_audited(school: School) -> None:
    link = await school.make_link()
    await school.register(join_token=link["join_token"], username="keza.m")
    await school.expert.delete(school.path(f"/join-links/{link['join_link_id']}"))

    acts = [(entry["action"], entry["target_id"]) for entry in await school.audited()]

    assert acts == [
        (action, link["join_link_id"]) for action in ("join_link.revoked", "join_link.used", "join_link.created")
    ]


async def test_a_link_is_used_as_often_as_it_says_however_many_try(committed_school: School) -> None:
    link = await committed_school.make_link(max_uses=3, group_id=str(committed_school.group_id))

    answers = await asyncio.gather(
        *(
            committed_school.register(join_token=link["join_token"], username=f"learner.{number}")
            for number in range(12)
        )
    )

    assert Counter(answer.status_code for answer in answers) == {201: 3, 422: 9}
    [listed] = (await committed_school.expert.get(committed_school.path("/join-links"))).json()["items"]
    assert listed["uses"] == 3


TAKEN_AWAY: Final[dict[str, dict[str, Any] | None]] = {
    "deactivated": {"is_active": False},
    "demoted": {"role": "user"},
    "removed": None,
}


async def _take_away(school: School, how: str) -> None:
    changes = TAKEN_AWAY[how]
    if changes is None:
        answer = await school.remove(school.owner, school.expert)
    else:
        answer = await school.change(school.owner, school.expert, **changes)
    assert answer.status_code in {200, 204}, answer.text


async def _until_waiting(school: School, number: int, *, unless: asyncio.Task[Any] | None = None) -> None:
    """Until as many of the database's sessions wait for others, or the task is done."""
    waiting = text(
        "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )
    async with asyncio.timeout(20):
        while unless is None or not unless.done():
            async with school.database.unit_of_work(school.org_id) as session:
                if await session.scalar(waiting) == number:
                    return


async def _links(school: School) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await school.owner.get(school.path("/join-links"))).json()["items"]
    return items


@pytest.mark.parametrize("how", TAKEN_AWAY)
async def test_a_link_that_is_being_made_ends_with_its_makers_membership_or_role(
    committed_school: School, how: str
) -> None:
    school = committed_school
    async with school.database.unit_of_work(school.org_id) as session, asyncio.TaskGroup() as tasks:
        await session.execute(select(Group.id).where(Group.id == school.group_id).with_for_update())
        making = tasks.create_task(school.make_link(group_id=str(school.group_id)))
        await _until_waiting(school, 1)
        taking = tasks.create_task(_take_away(school, how))
        await _until_waiting(school, 2, unless=taking)
        await session.rollback()

    assert making.result()["created_by"] == str(school.expert.principal.user_id)
    assert await _links(school) == []


@pytest.mark.parametrize("how", TAKEN_AWAY)
async def test_who_loses_membership_or_role_meanwhile_makes_no_link(committed_school: School, how: str) -> None:
    school = committed_school
    async with school.database.unit_of_work(school.org_id) as session, asyncio.TaskGroup() as tasks:
        await member_queries.lock_organization(session, school.org_id)
        tasks.create_task(_take_away(school, how))
        await _until_waiting(school, 1)
        making = tasks.create_task(school.expert.post(school.path("/join-links"), link_body()))
        await _until_waiting(school, 2, unless=making)
        await session.rollback()

    assert code_of(making.result()) == (401, "unauthenticated")
    assert await _links(school) == []
