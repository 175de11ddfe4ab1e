"""Seats: what an organisation's plan allows is never exceeded, however many come at once."""

import asyncio
from collections import Counter

from sqlalchemy import text

from tests.auth.conftest import TurnedClock
from tests.support.feature_app import code_of
from tests.support.memberships import Plan, School

FOUNDERS = 5
"""Active members of a school that has just opened."""


async def test_an_invitation_holds_a_seat_until_it_is_revoked(school: School, plan: Plan) -> None:
    plan.limit = FOUNDERS + 1
    invitation = await school.invite("one@x.rw")

    full = await school.admin.post(school.path("/invite"), {"email": "two@x.rw", "role": "user"})
    await school.admin.delete(school.path(f"/invitations/{invitation['invite_id']}"))
    free = await school.admin.post(school.path("/invite"), {"email": "two@x.rw", "role": "user"})

    assert code_of(full) == (402, "quota_exhausted")
    assert "revoke an invitation" in full.json()["detail"]
    assert free.status_code == 201


async def test_an_expired_invitation_holds_no_seat(school: School, plan: Plan, clock: TurnedClock) -> None:
    plan.limit = FOUNDERS + 1
    await school.invite("one@x.rw")
    clock.turn(days=7, seconds=1)

    assert (await school.invite("two@x.rw"))["email"] == "two@x.rw"


async def test_the_last_seat_may_be_offered_to_the_same_address_again(school: School, plan: Plan) -> None:
    plan.limit = FOUNDERS + 1
    await school.invite("one@x.rw")

    assert (await school.invite("one@x.rw"))["email"] == "one@x.rw"


async def test_accepting_keeps_the_invitations_seat(school: School, plan: Plan) -> None:
    plan.limit = FOUNDERS + 1
    token = (await school.invite("one@x.rw"))["invite_token"]

    accepted = await school.register(invite_token=token)
    full = await school.admin.post(school.path("/invite"), {"email": "two@x.rw", "role": "user"})

    assert (accepted.status_code, full.status_code) == (201, 402)


async def test_who_joins_without_a_seat_is_told_whom_to_tell(school: School, plan: Plan) -> None:
    link = await school.make_link()
    plan.limit = FOUNDERS

    answer = await school.register(join_token=link["join_token"], username="keza.m")

    assert code_of(answer) == (402, "quota_exhausted")
    assert "tell whoever gave you this link" in answer.json()["detail"]
    [listed] = (await school.expert.get(school.path("/join-links"))).json()["items"]
    assert listed["uses"] == 0


async def test_who_was_invited_and_joins_by_a_link_holds_one_seat(school: School, plan: Plan) -> None:
    plan.limit = FOUNDERS + 1
    link = await school.make_link()
    await school.invite("keza@x.rw")

    joined = await school.register(join_token=link["join_token"], email="keza@x.rw")

    assert joined.status_code == 201
    assert (await school.admin.get(school.path("/invitations"))).json()["items"] == []


async def test_deactivation_frees_a_seat_and_reactivation_needs_one(school: School, plan: Plan) -> None:
    plan.limit = FOUNDERS
    link = await school.make_link(school.admin)

    await school.change(school.admin, school.learner, is_active=False)
    joined = await school.register(join_token=link["join_token"], username="keza.m")
    full = await school.change(school.admin, school.learner, is_active=True)
    plan.limit += 1
    back = await school.change(school.admin, school.learner, is_active=True)

    assert (joined.status_code, code_of(full), back.status_code) == (201, (402, "quota_exhausted"), 200)


async def test_the_seats_of_one_school_are_not_anothers(school: School, plan: Plan) -> None:
    plan.limit = FOUNDERS + 1
    await school.register(email="owner@another.rw", org_name="Another School")

    assert (await school.invite("one@x.rw"))["email"] == "one@x.rw"


async def test_invitations_links_and_returns_at_once_never_exceed_the_seats(
    committed_school: School, plan: Plan
) -> None:
    school = committed_school
    tokens = [(await school.invite(f"invited{number}@x.rw"))["invite_token"] for number in range(5)]
    link = await school.make_link()
    await school.change(school.admin, school.colleague, is_active=False)
    plan.limit = FOUNDERS - 1 + len(tokens) + 4

    answers = await asyncio.gather(
        *(school.register(invite_token=token) for token in tokens),
        *(school.register(join_token=link["join_token"], username=f"learner.{number}") for number in range(10)),
        *(school.admin.post(school.path("/invite"), {"email": f"late{n}@x.rw", "role": "user"}) for n in range(4)),
        school.change(school.admin, school.colleague, is_active=True),
    )

    statuses = [answer.status_code for answer in answers]
    assert statuses[: len(tokens)] == [201] * len(tokens)
    assert Counter(status for status in statuses[len(tokens) :] if status != 402).total() == 4
    async with school.database.unit_of_work(school.org_id) as session:
        taken = await session.scalar(
            text("SELECT (SELECT count(*) FROM users WHERE is_active) + (SELECT count(*) FROM invitations)")
        )
    assert taken == plan.limit
