"""POST /personas with an `Idempotency-Key`, on connections that really commit."""

import asyncio
from collections import Counter
from typing import Any

from httpx2 import Response
from sqlalchemy import text

from bwenge.kit.db import Database
from tests.support.feature_app import code_of
from tests.support.schools import PERSONA, Member, PersonaAPI, School


async def create(member: Member, *, key: str = "4b0e", **changes: Any) -> Response:
    headers = {**member.headers, "Idempotency-Key": key}
    return await member.client.post("/personas", headers=headers, json={**PERSONA, **changes})


async def personas(database: Database, school: School) -> int:
    async with database.unit_of_work(school.org_id) as session:
        return int(await session.scalar(text("SELECT count(*) FROM personas")) or 0)


async def test_ten_twins_at_once_make_one_persona_and_get_one_answer(
    committed_api: PersonaAPI, committed_database: Database
) -> None:
    school = await committed_api.new_school()
    answers = await asyncio.gather(*(create(school.expert) for _ in range(10)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {None: 1, "true": 9}
    assert await personas(committed_database, school) == 1


async def test_of_twins_with_two_bodies_one_is_made_and_the_other_refused(
    committed_api: PersonaAPI, committed_database: Database
) -> None:
    school = await committed_api.new_school()
    answers = await asyncio.gather(create(school.expert), create(school.expert, name="Another"))
    made, refused = sorted(answers, key=lambda answer: answer.status_code)
    assert (made.status_code, code_of(refused)) == (201, (409, "idempotency_key_reused"))
    assert await personas(committed_database, school) == 1


async def test_an_answer_is_repeated_after_the_persona_was_changed(school: School) -> None:
    first = await create(school.expert)
    persona_id = first.json()["persona_id"]
    assert (await school.expert.put(f"/personas/{persona_id}", {**PERSONA, "name": "Anew"})).status_code == 200
    assert (await create(school.expert)).content == first.content
    assert len((await school.expert.get("/personas")).json()["items"]) == 1


async def test_a_colleagues_same_key_is_another_key(school: School) -> None:
    first, other = await create(school.expert), await create(school.colleague)
    assert (first.status_code, other.status_code) == (201, 201)
    assert first.json()["persona_id"] != other.json()["persona_id"]


async def test_a_member_of_another_school_gets_nothing_of_ours(school: School, other_school: School) -> None:
    await create(school.expert)
    assert (await create(other_school.expert)).json()["org_id"] == str(other_school.org_id)


async def test_a_refused_persona_is_not_kept(school: School) -> None:
    assert code_of(await create(school.expert, name="")) == (422, "invalid")
    assert (await create(school.expert)).status_code == 201


async def test_who_may_make_none_gets_no_kept_answer(school: School) -> None:
    await create(school.expert)
    assert code_of(await create(school.learner)) == (403, "forbidden")
