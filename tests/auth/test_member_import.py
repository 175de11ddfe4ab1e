"""POST /orgs/{org_id}/members/import."""

import asyncio
import re
from typing import Any

import pytest
from httpx2 import Response

from bwenge.auth.member_import import new_password
from bwenge.kit.identity import Role
from tests.auth.test_members import names
from tests.support.feature_app import code_of
from tests.support.memberships import Plan, School, open_school
from tests.support.schools import Member

CLASS = "name,username|email,group\nAline,aline.u,S1 A\nEric,eric@x.rw,S3 C\nKeza,keza.m,s3 c\nJean,jean.b,\n"


async def send(caller: Member, school: School, text: str | bytes, *, kind: str = "text/csv") -> Response:
    content = text if isinstance(text, bytes) else text.encode()
    headers = caller.headers | {"Content-Type": kind}
    return await school.client.post(school.path("/members/import"), content=content, headers=headers)


async def items(school: School, text: str) -> list[dict[str, Any]]:
    answer = await send(school.admin, school, text)
    assert answer.status_code == 201, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[int, str, str | None]]:
    return [(row["row"], row["status"], row["error_code"]) for row in rows]


async def test_each_row_becomes_a_learner_who_signs_in_with_the_password_shown(school: School) -> None:
    answer = await send(school.admin, school, CLASS)
    body = answer.json()

    assert (answer.status_code, body["created"], body["refused"]) == (201, 4, 0)
    assert answer.headers["cache-control"] == "no-store"
    for row in body["items"]:
        identifier = row["username"] or row["email"]
        login = await school.client.post("/auth/login", json={"identifier": identifier, "password": row["password"]})
        assert login.status_code == 200, row
        assert (login.json()["user"]["user_id"], login.json()["user"]["role"]) == (row["user_id"], "user")


async def test_classes_are_found_in_any_case_and_made_where_they_are_not(school: School) -> None:
    await items(school, CLASS)

    own = (await school.admin.get(school.path(f"/members?group_id={school.group_id}"))).json()["items"]
    assert [item["name"] for item in own] == ["learner", "Aline"]
    # The new class is the importer's, so as an expert they would find its learners.
    await school.change(school.owner, school.admin, role="expert")
    importer = school.with_role(school.admin, Role.EXPERT)
    assert await names(importer, school) == ["Eric", "Keza"]


@pytest.mark.parametrize("part", ["text/csv", "application/vnd.ms-excel"])
async def test_a_form_with_a_file_is_read_as_well(school: School, part: str) -> None:
    text = "\ufeffname;username;group\r\nAline;aline.u;S1 A\r\n"
    answer = await school.client.post(
        school.path("/members/import"),
        headers=school.admin.headers,
        files={"file": ("class.csv", text.encode(), part)},
    )

    assert outcomes(answer.json()["items"]) == [(2, "created", None)]


async def test_a_bad_row_does_not_spoil_the_others(school: School) -> None:
    await school.register(email="taken@x.rw", org_name="Another School")
    await school.add(Role.USER, username="Taken.Here")

    rows = await items(
        school,
        "name,username,email,group\n"
        "Aline,aline.u,,New Class\n"
        "Two,,taken@x.rw,Never Made\n"
        "Three,taken.here,,\n"
        "Four,?,,\n"
        "Five,ALINE.U,,\n"
        "Six,six.six,six@x.rw,\n",
    )

    assert outcomes(rows) == [
        (2, "created", None),
        (3, "refused", "email_taken"),
        (4, "refused", "username_taken"),
        (5, "refused", "invalid"),
        (6, "refused", "username_taken"),
        (7, "created", None),
    ]
    assert all((row["password"] is None) == (row["message"] is not None) for row in rows)
    assert await names(school.admin, school, "?q=aline") == ["Aline"]


async def test_the_seats_stop_an_import_row_by_row(school: School, plan: Plan) -> None:
    plan.limit = 5 + 2

    rows = await items(school, "name,username\nOne,one.one\nBad,?\nTwo,two.two\nThree,three.three\nFour,four.four\n")

    assert [row["error_code"] for row in rows] == [None, "invalid", None, "quota_exhausted", "quota_exhausted"]
    assert await names(school.admin, school, "?role=user") == ["learner", "One", "Two"]


async def test_who_was_invited_has_a_seat_already_which_the_account_takes_over(school: School, plan: Plan) -> None:
    plan.limit = 5 + 2
    for name in ("aline", "eric"):
        await school.invite(f"{name}@x.rw")

    rows = await items(school, "name,email\nAline,ALINE@x.rw\nKeza,keza@x.rw\nEric,eric@x.rw\n")

    assert [row["error_code"] for row in rows] == [None, "quota_exhausted", None]
    assert (await school.admin.get(school.path("/invitations"))).json()["items"] == []


async def test_without_a_seat_nobody_learns_who_has_an_account_elsewhere(school: School, plan: Plan) -> None:
    await school.register(email="taken@x.rw", org_name="Another School")
    plan.limit = 5

    rows = await items(school, "name,email\nOne,taken@x.rw\nTwo,nobody@x.rw\n")

    assert [row["error_code"] for row in rows] == ["quota_exhausted", "quota_exhausted"]


async def test_imports_of_the_same_names_in_another_order_do_not_wait_in_a_circle(committed_school: School) -> None:
    """Names are unique over all organisations, and each import holds those that it has added."""
    other = await open_school(committed_school.database, committed_school.feature, committed_school.client)
    rows = [f"Pupil,pupil.{number:03}" for number in range(60)]
    texts = ["\n".join(["name,username", *order]) for order in (rows, rows[::-1])]

    results = await asyncio.gather(
        *(send(school.admin, school, text) for school, text in zip((committed_school, other), texts, strict=True))
    )

    assert [answer.status_code for answer in results] == [201, 201]
    assert sum(answer.json()["created"] for answer in results) == 60


async def test_imports_at_once_share_the_seats_and_the_names(committed_school: School, plan: Plan) -> None:
    plan.limit = 5 + 4
    texts = [
        "name,username,group\nSame,same.name,S9\n" + "".join(f"M,m.{number}.{row},S9\n" for row in range(3))
        for number in range(3)
    ]

    results = await asyncio.gather(*(items(committed_school, text) for text in texts))

    created = [row for rows in results for row in rows if row["status"] == "created"]
    assert len(created) == 4
    assert sum(row["username"] == "same.name" for row in created) == 1
    refusals = {row["error_code"] for rows in results for row in rows if row["status"] == "refused"}
    assert refusals <= {"quota_exhausted", "username_taken"}
    groups = await committed_school.group_names()
    assert sorted(groups) == ["S1 A", "S9"]


@pytest.mark.parametrize(
    ("text", "kind", "refusal"),
    [
        ("name,group\nAline,S1\n", "text/csv", (422, "invalid")),
        # A quote that never ends would take all rows after it for one cell.
        ('name,username\n"Aline,aline.a\nEric,eric.e\nKeza,keza.k\n', "text/csv", (422, "invalid")),
        (b"\xff\xfe", "text/csv; charset=utf-16", (422, "invalid")),
        ("{}", "application/json", (415, "unsupported_type")),
        (CLASS, "", (415, "unsupported_type")),
        ("no form", "multipart/form-data", (400, "bad_request")),
        ("no form", "multipart/form-data; boundary=x", (400, "bad_request")),
        ("name,username\n" + "A,a.b\n" * 1_001, "text/csv", (413, "too_large")),
        (
            '--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nname\r\n--x--',
            "multipart/form-data; boundary=x",
            (422, "invalid"),
        ),
    ],
)
async def test_what_is_no_list_is_refused(
    school: School, text: str | bytes, kind: str, refusal: tuple[int, str]
) -> None:
    assert code_of(await send(school.admin, school, text, kind=kind)) == refusal
    assert len(await names(school.admin, school)) == 5


@pytest.mark.parametrize("role", [Role.EXPERT, Role.USER])
async def test_below_admin_nobody_imports(school: School, role: Role) -> None:
    assert code_of(await send(school.by_role(role), school, CLASS)) == (403, "forbidden")


async def test_an_import_is_one_audited_act_without_passwords(school: School) -> None:
    rows = await items(school, CLASS + "Bad,?,\n")

    [entry] = await school.audited()

    assert (entry["action"], entry["detail"]) == ("members.imported", {"created": 4, "refused": 1})
    assert all(row["password"] not in str(entry) for row in rows if row["password"])


def test_passwords_have_eighty_bits_that_can_be_copied_from_paper() -> None:
    passwords = {new_password() for _ in range(200)}

    assert len(passwords) == 200
    # 16 letters of 32 kinds are 80 bits.
    assert all(re.fullmatch(r"[2-9a-km-np-z]{4}(?:-[2-9a-km-np-z]{4}){3}", password) for password in passwords)
    assert len({letter for password in passwords for letter in password}) == 32 + 1
