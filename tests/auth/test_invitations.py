"""Invitations: who may send them, what they open, and for how long."""

import asyncio
from collections import Counter

import pytest

from bwenge.kit.errors import Unavailable
from bwenge.kit.identity import Role
from tests.auth.conftest import TurnedClock
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of
from tests.support.memberships import PASSWORD, Outbox, School

EMAIL = "eric@gs-kimironko.rw"


async def test_an_invitation_has_the_fields_of_the_contract(school: School) -> None:
    answer = await school.admin.post(school.path("/invite"), {"email": EMAIL.upper(), "role": "expert", "name": "Eric"})

    invitation = answer.json()
    assert answer.status_code == 201
    assert (invitation["email"], invitation["role"], invitation["name"]) == (EMAIL, "expert", "Eric")
    assert invitation["url"] == f"https://bwenge.test/app/join?invite={invitation['invite_token']}"
    assert invitation["expires_at"].endswith("Z")
    assert answer.headers["cache-control"] == "no-store"


async def test_who_accepts_gets_the_invited_role_and_address(school: School) -> None:
    invitation = await school.invite(EMAIL, role=Role.EXPERT)

    answer = await school.register(invite_token=invitation["invite_token"], username="eric.m")
    user = answer.json()["user"]

    assert answer.status_code == 201
    assert (user["email"], user["username"], user["role"]) == (EMAIL, "eric.m", "expert")
    assert user["org_id"] == str(school.org_id)
    logged_in = await school.client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert logged_in.status_code == 200


async def test_the_address_may_be_repeated_and_no_other_given(school: School) -> None:
    token = (await school.invite(EMAIL))["invite_token"]

    other = await school.register(invite_token=token, email="other@gs-kimironko.rw")
    same = await school.register(invite_token=token, email=EMAIL.upper())

    assert code_of(other) == (422, "invalid")
    assert other.json()["errors"][0]["field"] == "email"
    assert same.status_code == 201


@pytest.mark.parametrize("inviter", [Role.OWNER, Role.ADMIN])
@pytest.mark.parametrize("role", list(Role))
async def test_nobody_invites_above_their_own_role(school: School, inviter: Role, role: Role) -> None:
    answer = await school.by_role(inviter).post(school.path("/invite"), {"email": EMAIL, "role": role.value})

    assert answer.status_code == (201 if inviter.at_least(role) else 403)


@pytest.mark.parametrize("role", [Role.EXPERT, Role.USER])
async def test_below_admin_nobody_invites_or_sees_invitations(school: School, role: Role) -> None:
    invitation = await school.invite(EMAIL)
    caller = school.by_role(role)

    answers = [
        await caller.post(school.path("/invite"), {"email": "a@b.rw", "role": "user"}),
        await caller.get(school.path("/invitations")),
        await caller.delete(school.path(f"/invitations/{invitation['invite_id']}")),
    ]

    assert [code_of(answer) for answer in answers] == [(403, "forbidden")] * 3


async def test_an_address_with_an_account_anywhere_is_taken(school: School) -> None:
    await school.register(email=EMAIL, org_name="Another School")

    answer = await school.admin.post(school.path("/invite"), {"email": EMAIL, "role": "user"})

    assert code_of(answer) == (409, "email_taken")


async def test_an_account_opened_meanwhile_keeps_its_address(school: School) -> None:
    token = (await school.invite(EMAIL))["invite_token"]
    await school.register(email=EMAIL, org_name="Another School")

    assert code_of(await school.register(invite_token=token)) == (409, "email_taken")


async def test_a_second_invitation_replaces_the_first(school: School) -> None:
    first = await school.invite(EMAIL)
    second = await school.invite(EMAIL, role=Role.EXPERT)

    listed = (await school.admin.get(school.path("/invitations"))).json()["items"]

    assert [invitation["invite_id"] for invitation in listed] == [second["invite_id"]]
    assert code_of(await school.register(invite_token=first["invite_token"])) == (422, "invalid_invitation")
    assert (await school.register(invite_token=second["invite_token"])).json()["user"]["role"] == "expert"


async def test_an_admin_neither_replaces_nor_revokes_an_owners_invitation(school: School) -> None:
    invitation = await school.invite(EMAIL, role=Role.OWNER)

    replaced = await school.admin.post(school.path("/invite"), {"email": EMAIL, "role": "user"})
    revoked = await school.admin.delete(school.path(f"/invitations/{invitation['invite_id']}"))

    assert [code_of(replaced), code_of(revoked)] == [(403, "forbidden")] * 2
    assert (await school.register(invite_token=invitation["invite_token"])).json()["user"]["role"] == "owner"


async def test_unknown_expired_revoked_and_used_tokens_answer_alike(school: School, clock: TurnedClock) -> None:
    expired = (await school.invite("expired@x.rw"))["invite_token"]
    clock.turn(days=7, seconds=1)
    revoked = await school.invite("revoked@x.rw")
    gone = await school.admin.delete(school.path(f"/invitations/{revoked['invite_id']}"))
    used = (await school.invite("used@x.rw"))["invite_token"]
    accepted = await school.register(invite_token=used)

    refusals = [
        await school.register(invite_token=token, email=email)
        for token in ("unknown", expired, revoked["invite_token"], used)
        for email in (None, "somebody@else.rw")
    ]

    assert (gone.status_code, accepted.status_code) == (204, 201)
    assert len({tuple(sorted((answer.json() | {"request_id": ""}).items())) for answer in refusals}) == 1
    assert code_of(refusals[0]) == (422, "invalid_invitation")


async def test_an_invitation_lives_for_seven_days(school: School, clock: TurnedClock) -> None:
    token = (await school.invite(EMAIL))["invite_token"]
    clock.turn(days=6, hours=23)

    assert (await school.register(invite_token=token)).status_code == 201


async def test_an_accepted_invitation_is_revoked_no_more(school: School) -> None:
    invitation = await school.invite(EMAIL)
    await school.register(invite_token=invitation["invite_token"])

    answer = await school.admin.delete(school.path(f"/invitations/{invitation['invite_id']}"))

    assert code_of(answer) == (404, "not_found")


async def test_the_list_shows_no_tokens_and_goes_page_by_page(school: School) -> None:
    made = [(await school.invite(f"m{number}@x.rw"))["invite_id"] for number in range(3)]

    first = (await school.admin.get(school.path("/invitations?limit=2"))).json()
    second = (await school.admin.get(school.path(f"/invitations?limit=2&cursor={first['next_cursor']}"))).json()

    assert [item["invite_id"] for item in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None
    assert first["items"][0].keys() == {
        "invite_id",
        "email",
        "role",
        "name",
        "invited_by",
        "created_at",
        "expires_at",
    }


async def test_only_the_hash_of_a_token_is_stored(school: School, database: SavepointDatabase) -> None:
    invitation = await school.invite(EMAIL)
    link = await school.make_link()

    async with database.superuser() as connection:
        rows = [
            str((await connection.exec_driver_sql(f"SELECT t::text FROM {table} t")).all())  # noqa: S608  # our names
            for table in ("invitations", "join_links", "audit_log")
        ]

    assert not any(token in row for row in rows for token in (invitation["invite_token"], link["join_token"]))


async def test_where_mail_is_configured_the_link_is_mailed(school: School, outbox: Outbox) -> None:
    outbox.is_configured = True

    invitation = await school.invite(EMAIL)

    [mail] = outbox.mails
    assert (invitation["mailed"], mail.to) == (True, EMAIL)
    assert invitation["url"] in mail.text
    assert "Groupe Scolaire Kimironko" in mail.subject


async def test_where_no_mail_is_configured_the_answer_alone_has_the_link(school: School, outbox: Outbox) -> None:
    assert (await school.invite(EMAIL))["mailed"] is False
    assert outbox.mails == []


@pytest.mark.parametrize("failure", [ConnectionRefusedError(), Unavailable(), ValueError()])
async def test_an_invitation_stands_when_its_mail_does_not_leave(
    school: School, outbox: Outbox, failure: Exception
) -> None:
    outbox.is_configured, outbox.failure = True, failure

    invitation = await school.invite(EMAIL)

    assert invitation["mailed"] is False
    assert (await school.register(invite_token=invitation["invite_token"])).status_code == 201


async def test_a_refused_invitation_is_not_mailed(school: School, outbox: Outbox) -> None:
    outbox.is_configured = True

    await school.admin.post(school.path("/invite"), {"email": EMAIL, "role": "owner"})

    assert outbox.mails == []


async def test_what_is_done_with_invitations_is_audited(school: School) -> None:
    invitation = await school.invite(EMAIL)
    await school.admin.delete(school.path(f"/invitations/{invitation['invite_id']}"))
    accepted = await school.register(invite_token=(await school.invite(EMAIL))["invite_token"])

    acts = [(entry["action"], entry["actor_id"]) for entry in await school.audited()]

    owner, admin = str(school.owner.principal.user_id), str(school.admin.principal.user_id)
    assert acts == [
        ("invitation.accepted", accepted.json()["user"]["user_id"]),
        ("member.invited", owner),
        ("invitation.revoked", admin),
        ("member.invited", owner),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"email": "no address", "role": "user"},
        {"email": EMAIL, "role": "operator"},
        {"email": EMAIL},
        {"role": "user"},
    ],
)
async def test_bad_fields_are_refused(school: School, body: dict[str, str]) -> None:
    assert code_of(await school.admin.post(school.path("/invite"), body)) == (422, "invalid")


async def test_an_invitation_is_accepted_once_however_many_try(committed_school: School) -> None:
    token = (await committed_school.invite(EMAIL))["invite_token"]

    answers = await asyncio.gather(
        *(committed_school.register(invite_token=token, username=f"eric.{number}") for number in range(6))
    )

    assert Counter(answer.status_code for answer in answers) == {201: 1, 422: 5}


async def test_an_address_invited_twice_at_once_has_one_invitation(committed_school: School) -> None:
    answers = await asyncio.gather(
        *(
            committed_school.admin.post(committed_school.path("/invite"), {"email": EMAIL, "role": "user"})
            for _ in range(5)
        )
    )

    assert {answer.status_code for answer in answers} == {201}
    assert len((await committed_school.admin.get(committed_school.path("/invitations"))).json()["items"]) == 1
