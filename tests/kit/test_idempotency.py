"""Answers that are kept for twins, on transactions that really commit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.idempotency.answers import SWEPT_AT_ONCE, Answer, KeptAnswers, KeyedRequest
from bwenge.kit.idempotency.errors import IdempotencyInProgress, IdempotencyKeyReused
from bwenge.kit.ids import new_id
from tests.support.waiting import comes_true

SECRET: Final = bytes(range(32))
ANSWERS: Final = KeptAnswers(SECRET, wait=timedelta(seconds=20))
IMPATIENT: Final = KeptAnswers(SECRET, wait=timedelta(milliseconds=200))
ANSWER: Final = Answer(201, b'{"token":"ibanga"}', (("cache-control", "no-store"),))
COUNT: Final = text("SELECT count(*) FROM idempotency_keys")


def request(*, whose: str = "user:1", org_id: UUID | None = None, **changes: Any) -> KeyedRequest:
    given: dict[str, Any] = {"route": "POST /things", "key": "k-1", "content": b"{}", **changes}
    return ANSWERS.keyed(whose=whose, org_id=org_id, **given)


async def find(database: Database, wanted: KeyedRequest, *, answers: KeptAnswers = ANSWERS) -> Answer | None:
    async with database.unit_of_work(wanted.org_id or PLATFORM) as session:
        return await answers.claim(session, wanted)


async def keep(
    database: Database, wanted: KeyedRequest, answer: Answer = ANSWER, *, org_id: UUID | None = None
) -> None:
    async with database.unit_of_work(wanted.org_id or PLATFORM) as session:
        assert await ANSWERS.claim(session, wanted) is None
        await ANSWERS.keep(session, wanted, answer, org_id=org_id)


async def count(database: Database) -> int:
    async with database.unit_of_work(PLATFORM) as session:
        return int(await session.scalar(COUNT) or 0)


async def let_expire(database: Database) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = clock_timestamp()"))


@asynccontextmanager
async def claimed(database: Database, wanted: KeyedRequest) -> AsyncIterator[AsyncSession]:
    async with database.unit_of_work(wanted.org_id or PLATFORM) as session:
        assert await ANSWERS.claim(session, wanted) is None
        yield session


async def somebody_waits(database: Database) -> bool:
    async with database.unit_of_work(PLATFORM) as session:
        waiting = await session.scalar(
            text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        )
    return bool(waiting)


async def new_tenant(database: Database) -> UUID:
    org_id = new_id()
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": org_id})
    return org_id


async def test_the_same_request_gets_the_answer_that_was_kept(committed_database: Database) -> None:
    await keep(committed_database, request())
    assert await find(committed_database, request()) == ANSWER


async def test_a_request_that_was_never_answered_finds_nothing_and_leaves_nothing(committed_database: Database) -> None:
    assert await find(committed_database, request()) is None
    assert await count(committed_database) == 0


async def test_the_same_key_with_other_content_is_refused(committed_database: Database) -> None:
    await keep(committed_database, request())
    with pytest.raises(IdempotencyKeyReused):
        await find(committed_database, request(content=b'{"name":"Keza"}'))


@pytest.mark.parametrize(
    "other", [{"whose": "user:2"}, {"whose": "address:10.0.0.1"}, {"route": "POST /x"}, {"key": "k-2"}]
)
async def test_of_another_caller_route_or_key_it_is_another_request(
    committed_database: Database, other: dict[str, Any]
) -> None:
    await keep(committed_database, request())
    assert await find(committed_database, request(content=b"other", **other)) is None


async def test_a_tenants_answers_are_its_own(committed_database: Database) -> None:
    ours, theirs = await new_tenant(committed_database), await new_tenant(committed_database)
    await keep(committed_database, request(org_id=ours))
    assert await find(committed_database, request(org_id=ours)) == ANSWER
    assert await find(committed_database, request(org_id=theirs)) is None


@pytest.mark.parametrize("is_callers", [True, False])
async def test_answers_go_with_their_tenant(committed_database: Database, *, is_callers: bool) -> None:
    org_id = await new_tenant(committed_database)
    wanted = request(org_id=org_id if is_callers else None)
    await keep(committed_database, wanted, org_id=org_id)
    assert await find(committed_database, wanted) == ANSWER
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("DELETE FROM organizations"))
    assert await count(committed_database) == 0


# What is kept is kept with its result, or not at all.


async def test_a_transaction_that_fails_after_it_kept_leaves_neither_answer_nor_result(
    committed_database: Database,
) -> None:
    async def make_and_fail() -> None:
        async with claimed(committed_database, request()) as session:
            await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": new_id()})
            await ANSWERS.keep(session, request(), ANSWER)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await make_and_fail()
    assert await count(committed_database) == 0
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(text("SELECT count(*) FROM organizations")) == 0
    assert await find(committed_database, request()) is None


async def test_an_answer_that_is_there_is_not_overwritten(committed_database: Database) -> None:
    await keep(committed_database, request())
    with pytest.raises(IdempotencyInProgress):
        async with committed_database.unit_of_work(PLATFORM) as session:
            await ANSWERS.keep(session, request(), Answer(201, b"another"))
    assert await find(committed_database, request()) == ANSWER


# Twins at the same moment.


async def test_a_twin_waits_for_the_first_one_and_gets_its_answer(committed_database: Database) -> None:
    async with claimed(committed_database, request()) as session:
        twin = asyncio.create_task(find(committed_database, request()))
        await comes_true(lambda: somebody_waits(committed_database))
        await ANSWERS.keep(session, request(), ANSWER)
    assert await twin == ANSWER


async def test_a_twin_goes_on_where_the_first_one_made_nothing(committed_database: Database) -> None:
    async with claimed(committed_database, request()):
        twin = asyncio.create_task(find(committed_database, request()))
        await comes_true(lambda: somebody_waits(committed_database))
    assert await twin is None


async def test_a_twin_waits_no_longer_than_it_is_told_to(committed_database: Database) -> None:
    async with claimed(committed_database, request()):
        with pytest.raises(IdempotencyInProgress) as refusal:
            await find(committed_database, request(), answers=IMPATIENT)
    assert refusal.value.retry_after == 1


async def test_a_twin_with_other_content_waits_as_well(committed_database: Database) -> None:
    async with claimed(committed_database, request()):
        with pytest.raises(IdempotencyInProgress):
            await find(committed_database, request(content=b"other"), answers=IMPATIENT)


async def test_another_request_waits_for_nobody(committed_database: Database) -> None:
    async with claimed(committed_database, request()):
        assert await find(committed_database, request(key="k-2"), answers=IMPATIENT) is None


async def test_a_session_that_waited_in_vain_stays_usable_and_has_its_own_timeout_back(
    committed_database: Database,
) -> None:
    async with claimed(committed_database, request()), committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("SET LOCAL lock_timeout = '7s'"))
        with pytest.raises(IdempotencyInProgress):
            await IMPATIENT.claim(session, request())
        assert await session.scalar(text("SHOW lock_timeout")) == "7s"


async def test_a_session_that_waited_well_has_its_own_timeout_back(committed_database: Database) -> None:
    async def wait_and_look() -> object:
        async with committed_database.unit_of_work(PLATFORM) as session:
            assert await ANSWERS.claim(session, request()) is None
            return await session.scalar(text("SHOW lock_timeout"))

    async with claimed(committed_database, request()):
        twin = asyncio.create_task(wait_and_look())
        await comes_true(lambda: somebody_waits(committed_database))
    assert await twin == "0"


# Expiry.


async def test_an_answer_is_kept_for_a_day(committed_database: Database) -> None:
    await keep(committed_database, request())
    async with committed_database.unit_of_work(PLATFORM) as session:
        left = await session.scalar(text("SELECT expires_at - clock_timestamp() FROM idempotency_keys"))
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)


async def test_an_expired_answer_is_none_and_its_key_is_free_for_any_request(committed_database: Database) -> None:
    await keep(committed_database, request())
    await let_expire(committed_database)
    await keep(committed_database, request(content=b"other"), Answer(200, b"new"))
    assert await find(committed_database, request(content=b"other")) == Answer(200, b"new")
    assert await count(committed_database) == 1


async def test_expired_answers_are_removed_some_at_a_time(committed_database: Database) -> None:
    for number in range(SWEPT_AT_ONCE + 5):
        await keep(committed_database, request(key=str(number)))
    await let_expire(committed_database)
    await keep(committed_database, request(key="a"))
    assert await count(committed_database) == 5 + 1
    await keep(committed_database, request(key="b"))
    assert await count(committed_database) == 2


async def test_a_caller_without_a_tenant_sweeps_what_expired_in_any(committed_database: Database) -> None:
    org_id = await new_tenant(committed_database)
    await keep(committed_database, request(), org_id=org_id)
    await let_expire(committed_database)
    await keep(committed_database, request(key="a"), org_id=await new_tenant(committed_database))
    assert await count(committed_database) == 1


async def test_an_expired_answer_gives_its_key_to_another_tenants(committed_database: Database) -> None:
    await keep(committed_database, request(), org_id=await new_tenant(committed_database))
    await let_expire(committed_database)
    other = await new_tenant(committed_database)
    await keep(committed_database, request(), org_id=other)
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert (await session.scalars(text("SELECT org_id FROM idempotency_keys"))).all() == [other]


async def test_a_sweep_waits_for_nobody(committed_database: Database) -> None:
    for key in ("a", "b"):
        await keep(committed_database, request(key=key))
    await let_expire(committed_database)
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("SELECT 1 FROM idempotency_keys WHERE key = 'a' FOR UPDATE"))
        await keep(committed_database, request(key="c"))
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert set(await session.scalars(text("SELECT key FROM idempotency_keys"))) == {"a", "c"}


# Secrecy.


async def test_neither_tokens_nor_addresses_nor_bodies_can_be_read_in_the_table(committed_database: Database) -> None:
    await keep(committed_database, request(whose="address:197.243.0.1", content=b'{"password":"umusozi"}'))
    async with committed_database.unit_of_work(PLATFORM) as session:
        row = (await session.execute(text("SELECT owner, fingerprint, answer FROM idempotency_keys"))).one()
    for secret in (b"ibanga", b"no-store", b"197.243.0.1", b"umusozi"):
        assert all(secret not in column for column in row)


async def test_an_answer_that_was_put_into_another_row_does_not_open(committed_database: Database) -> None:
    await keep(committed_database, request())
    await keep(committed_database, request(whose="user:2"))
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(
            text("UPDATE idempotency_keys SET answer = (SELECT answer FROM idempotency_keys WHERE owner = :owner)"),
            {"owner": request().owner},
        )
    assert await find(committed_database, request()) == ANSWER
    with pytest.raises(InvalidTag):
        await find(committed_database, request(whose="user:2"))


async def test_another_installation_finds_nothing(committed_database: Database) -> None:
    await keep(committed_database, request())
    other = KeptAnswers(bytes(32))
    wanted = other.keyed(whose="user:1", org_id=None, route="POST /things", key="k-1", content=b"{}")
    assert await find(committed_database, wanted, answers=other) is None


def test_what_could_be_read_is_not_shown() -> None:
    assert "ibanga" not in repr(ANSWER)
    assert "no-store" not in repr(ANSWER)


header = st.tuples(st.text(), st.text())
answers = st.builds(
    Answer, status=st.integers(200, 299), body=st.binary(), headers=st.lists(header, max_size=3).map(tuple)
)


@given(answers)
def test_an_answer_comes_out_as_it_went_in(answer: Answer) -> None:
    sealed = ANSWERS._seal(request(), answer)
    assert ANSWERS._open(request(), answer.status, sealed) == answer
    with pytest.raises(InvalidTag):
        ANSWERS._open(replace(request(), key="k-2"), answer.status, sealed)


parts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


@given(parts, parts, parts, parts)
def test_owner_route_and_key_are_not_mixed_up(one: str, other: str, third: str, fourth: str) -> None:
    first, second = request(route=one, key=other), request(route=third, key=fourth)
    assert (first.lock == second.lock) is ((one, other) == (third, fourth))
