"""Members as their administrators see and change them."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from bwenge.kit.identity import Role
from tests.support.feature_app import code_of
from tests.support.memberships import PASSWORD, School
from tests.support.schools import Member


async def names(caller: Member, school: School, query: str = "") -> list[str]:
    answer = await caller.get(school.path(f"/members{query}"))
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


async def ids(caller: Member, school: School, query: str = "") -> list[str]:
    return [item["user_id"] for item in (await caller.get(school.path(f"/members{query}"))).json()["items"]]


async def test_an_item_is_what_its_member_sees_of_themselves(school: School) -> None:
    items = (await school.admin.get(school.path("/members"))).json()["items"]

    assert (await school.owner.get("/users/me")).json() == items[0]


async def test_members_are_listed_in_the_order_in_which_they_came(school: School) -> None:
    assert await names(school.admin, school) == ["Owner", "admin", "expert", "colleague", "learner"]


async def test_members_go_page_by_page(school: School) -> None:
    pages = [(await school.admin.get(school.path("/members?limit=2"))).json()]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append((await school.admin.get(school.path(f"/members?limit=2&cursor={cursor}"))).json())

    assert [[item["name"] for item in page["items"]] for page in pages] == [
        ["Owner", "admin"],
        ["expert", "colleague"],
        ["learner"],
    ]


async def test_filters_choose_together(school: School) -> None:
    await school.change(school.admin, school.colleague, is_active=False)

    assert await names(school.admin, school, "?role=expert") == ["expert", "colleague"]
    assert await names(school.admin, school, "?role=expert&is_active=true") == ["expert"]
    assert await names(school.admin, school, "?is_active=false") == ["colleague"]
    assert await names(school.admin, school, f"?group_id={school.group_id}") == ["learner"]
    assert await names(school.admin, school, f"?group_id={school.group_id}&role=expert") == []


async def test_a_search_finds_parts_of_names_addresses_and_usernames(school: School) -> None:
    await school.add(Role.USER, name="Aline Uwase", username="percent_sign")

    assert await names(school.admin, school, "?q=uWAS") == ["Aline Uwase"]
    assert await names(school.admin, school, "?q=t_s") == ["Aline Uwase"]
    assert await names(school.admin, school, "?q=owner@") == ["Owner"]
    assert await names(school.admin, school, "?q=%25") == []


async def test_an_expert_finds_the_learners_of_own_classes(school: School) -> None:
    await school.add(Role.USER, name="In no class")
    other = await school.add(Role.USER, name="A colleague's")
    group_id = await school.add_group(school.colleague, other, school.colleague)

    assert await names(school.expert, school) == ["learner"]
    assert await names(school.colleague, school) == ["A colleague's"]
    assert await names(school.expert, school, f"?group_id={school.group_id}") == ["learner"]
    for unseen in (group_id, uuid4()):
        assert code_of(await school.expert.get(school.path(f"/members?group_id={unseen}"))) == (404, "not_found")


@pytest.mark.parametrize("query", ["?role=operator", "?group_id=S1", "?is_active=perhaps", "?limit=0", "?q=", "?q=%00"])
async def test_bad_filters_are_refused(school: School, query: str) -> None:
    assert code_of(await school.admin.get(school.path(f"/members{query}"))) == (422, "invalid")


@pytest.mark.parametrize("role", [Role.EXPERT, Role.USER])
async def test_below_admin_nobody_changes_or_removes_members(school: School, role: Role) -> None:
    caller = school.by_role(role)
    answers = [
        await school.change(caller, school.colleague, name="X"),
        await school.remove(caller, school.colleague),
    ]
    answers += [await caller.get(school.path("/members"))] if role is Role.USER else []

    assert {code_of(answer) for answer in answers} == {(403, "forbidden")}


@pytest.mark.parametrize("caller", [Role.OWNER, Role.ADMIN])
@pytest.mark.parametrize("present", list(Role))
@pytest.mark.parametrize("wanted", list(Role))
async def test_nobody_changes_or_makes_a_role_above_their_own(
    school: School, caller: Role, present: Role, wanted: Role
) -> None:
    target = await school.add(present)

    answer = await school.change(school.by_role(caller), target, role=wanted.value)

    is_allowed = caller.at_least(present) and caller.at_least(wanted)
    # Where nothing changes, nothing is refused.
    assert answer.status_code == (200 if is_allowed or present is wanted else 403)


async def test_an_admin_touches_no_owner(school: School) -> None:
    answers = [
        await school.change(school.admin, school.owner, is_active=False),
        await school.change(school.admin, school.owner, name="X"),
        await school.remove(school.admin, school.owner),
    ]

    assert {code_of(answer) for answer in answers} == {(403, "forbidden")}


@pytest.mark.parametrize("changes", [{"role": "admin"}, {"is_active": False}])
async def test_the_last_active_owner_stays(school: School, changes: dict[str, Any]) -> None:
    second = await school.add(Role.OWNER)
    await school.change(school.owner, second, is_active=False)

    assert code_of(await school.change(school.owner, school.owner, **changes)) == (409, "last_owner")
    assert code_of(await school.remove(school.owner, school.owner)) == (409, "last_owner")


async def test_an_owner_may_go_when_another_stays(school: School) -> None:
    await school.add(Role.OWNER)

    assert (await school.change(school.owner, school.owner, role="admin")).json()["role"] == "admin"


async def test_of_owners_who_all_leave_at_once_one_stays(committed_school: School) -> None:
    school = committed_school
    owners = [school.owner, await school.add(Role.OWNER), await school.add(Role.OWNER)]

    answers = await asyncio.gather(
        *(school.change(owner, owner, role="user") for owner in owners[:2]),
        school.change(owners[2], owners[2], is_active=False),
        school.remove(owners[0], owners[1]),
        school.remove(owners[1], owners[0]),
    )

    active = await school.admin.get(school.path("/members?role=owner&is_active=true"))
    assert len(active.json()["items"]) == 1
    assert {answer.status_code for answer in answers} <= {200, 204, 401, 403, 404, 409}


async def test_two_admins_who_deactivate_each_other_do_not_both_win(committed_school: School) -> None:
    school = committed_school
    other = await school.add(Role.ADMIN)

    answers = await asyncio.gather(
        school.change(school.admin, other, is_active=False), school.change(other, school.admin, is_active=False)
    )

    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 1}


async def test_a_deactivated_members_tokens_stop_at_once_and_for_good(school: School) -> None:
    login = (await school.register(join_token=(await school.make_link())["join_token"], username="keza.m")).json()
    headers = {"Authorization": f"Bearer {login['access_token']}"}
    path = school.path(f"/members/{login['user']['user_id']}")

    answer = await school.admin.call("PATCH", path, {"is_active": False})
    stopped = await school.client.get("/users/me", headers=headers)
    signed_in = await school.client.post("/auth/login", json={"username": "keza.m", "password": PASSWORD})
    await school.admin.call("PATCH", path, {"is_active": True})
    refreshed = await school.client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})

    assert answer.json()["is_active"] is False
    assert code_of(stopped) == (401, "unauthenticated")
    assert code_of(signed_in) == (401, "invalid_credentials")
    assert refreshed.status_code == 401, "a session that has ended does not come back with its member"


async def test_a_new_role_asks_for_a_new_token(school: School) -> None:
    await school.change(school.admin, school.colleague, role="user")

    assert code_of(await school.colleague.get("/users/me")) == (401, "unauthenticated")


@pytest.mark.parametrize("changes", [{"is_active": False}, {"role": "user"}, None])
async def test_what_a_member_offered_ends_with_their_rights(school: School, changes: dict[str, Any] | None) -> None:
    invitation = await school.invite("eric@x.rw", by=school.admin)
    link = await school.make_link(school.admin)
    kept = await school.make_link(school.expert)

    left = await (
        school.remove(school.owner, school.admin)
        if changes is None
        else school.change(school.owner, school.admin, **changes)
    )

    assert left.status_code in {200, 204}
    assert code_of(await school.register(invite_token=invitation["invite_token"])) == (422, "invalid_invitation")
    assert code_of(await school.register(join_token=link["join_token"], username="keza.m")) == (
        422,
        "invalid_invitation",
    )
    assert (await school.register(join_token=kept["join_token"], username="keza.m")).status_code == 201


async def test_a_higher_role_ends_nothing(school: School) -> None:
    link = await school.make_link(school.expert)

    await school.change(school.owner, school.expert, role="admin")

    assert (await school.register(join_token=link["join_token"], username="keza.m")).status_code == 201


async def test_changes_are_audited_without_names(school: School) -> None:
    await school.change(school.admin, school.learner, name="Aline Uwase", role="expert")
    await school.change(school.admin, school.learner, role="expert")

    [entry] = await school.audited()

    assert (entry["action"], entry["target_id"]) == ("member.changed", str(school.learner.principal.user_id))
    assert entry["detail"] == {"fields": ["name", "role"], "role": "expert"}


@pytest.mark.parametrize("body", [{"role": "operator"}, {"is_active": "perhaps"}, {"name": ""}, {"email": "a@b.rw"}])
async def test_bad_changes_are_refused(school: School, body: dict[str, Any]) -> None:
    assert code_of(await school.change(school.admin, school.learner, **body)) == (422, "invalid")


async def test_a_removed_member_is_in_no_list_and_comes_back_in_no_way(school: School) -> None:
    removed = await school.remove(school.admin, school.learner)

    assert removed.status_code == 204
    assert str(school.learner.principal.user_id) not in await ids(school.admin, school)
    again = [await school.remove(school.admin, school.learner)]
    again += [await school.change(school.admin, school.learner, is_active=True)]
    assert {code_of(answer) for answer in again} == {(404, "not_found")}
    former = f"former.{school.learner.principal.user_id.hex}"
    for password in (PASSWORD, "x"):
        answer = await school.client.post("/auth/login", json={"username": former, "password": password})
        assert code_of(answer) == (401, "invalid_credentials")
    acts = [entry["action"] for entry in await school.audited()]
    assert next(act for act in acts if not act.startswith("login.")) == "member.removed"


async def test_a_removed_members_address_is_free_again(school: School) -> None:
    token = (await school.invite("eric@x.rw"))["invite_token"]
    user_id = (await school.register(invite_token=token, username="eric.m")).json()["user"]["user_id"]

    await school.admin.delete(school.path(f"/members/{user_id}"))
    token = (await school.invite("eric@x.rw"))["invite_token"]

    assert (await school.register(invite_token=token, username="eric.m")).status_code == 201


async def test_a_removed_experts_class_stays_without_its_teacher(school: School) -> None:
    await school.remove(school.admin, school.expert)

    assert await names(school.admin, school, f"?group_id={school.group_id}") == ["learner"]
