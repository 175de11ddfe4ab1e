"""The rows of turns: blocks of numbers, leases, and ends, under the product's roles."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.analytics.service import EventLog
from bwenge.chat.protocol import ErrorFacts
from bwenge.chat.repository import ChatRepository
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import LeaseLost, Outcome, Question, StartedTurn, TurnRecords
from bwenge.kit.ids import new_id
from tests.chat.scripted import Links, School, citation, reply
from tests.support.databases import SavepointDatabase
from tests.support.quotas import plan_quotas

FINISHED = Outcome(state="finished", finish_reason="stop", text="Plants grow.", reply=reply("Plants grow."))


@pytest.fixture
async def stored_school(database: SavepointDatabase, school: School) -> School:
    async with database.superuser() as connection:
        await school.store(connection)
    return school


@pytest.fixture
def records(database: SavepointDatabase) -> TurnRecords:
    return records_of(database, "here")


def records_of(database: SavepointDatabase, owner: str, *, links: Links | None = None) -> TurnRecords:
    settings = ChatSettings(block_size=100)
    return TurnRecords(
        database, events=EventLog(), links=links or Links(), quotas=plan_quotas(), owner=owner, settings=settings
    )


@pytest.fixture
async def turn(database: SavepointDatabase, records: TurnRecords, stored_school: School) -> StartedTurn:
    return await begun(database, records, stored_school)


async def begun(database: SavepointDatabase, records: TurnRecords, school: School) -> StartedTurn:
    question = Question(
        session_id=new_id(), persona_id=school.persona_id, content="What is it?", client_msg_id=new_id()
    )
    async with database.unit_of_work(school.org_id) as session:
        repository = ChatRepository(session, school.org_id)
        await repository.add_conversation(
            question.session_id, user_id=school.learner_id, persona_id=school.persona_id, title="What is it?"
        )
        conversation = await repository.lock_conversation(question.session_id)
        assert conversation is not None
        return await records.begin(session, school.learner, question=question, conversation=conversation)


async def rows(database: SavepointDatabase, statement: str, **parameters: Any) -> list[dict[str, Any]]:
    async with database.superuser() as connection:
        result = await connection.execute(text(statement), parameters)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


async def only_row(database: SavepointDatabase, statement: str) -> dict[str, Any]:
    [row] = await rows(database, statement)
    return row


async def silence(database: SavepointDatabase, turn_id: UUID) -> None:
    """Let the lease run out."""
    await rows(database, "UPDATE turns SET lease_until = now() - interval '1 second' WHERE id = :id", id=turn_id)


async def test_a_turn_begins_with_a_block_of_the_session_s_numbers(
    database: SavepointDatabase, turn: StartedTurn
) -> None:
    conversation = await only_row(database, "SELECT last_seq, message_count FROM conversations")

    assert (turn.first_seq, turn.reserved_seqs) == (1, 100)
    assert conversation == {"last_seq": 100, "message_count": 1}


@pytest.mark.usefixtures("turn")
async def test_a_lease_runs_for_nine_seconds(database: SavepointDatabase) -> None:
    row = await only_row(database, "SELECT lease_until - created_at AS rest FROM turns")

    assert timedelta(seconds=8) < row["rest"] < timedelta(seconds=10)


async def test_another_block_follows_the_one_before(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    assert await records.reserve(turn) == 100

    assert await only_row(database, "SELECT last_seq FROM conversations") == {"last_seq": 200}
    assert await only_row(database, "SELECT reserved_seqs FROM turns") == {"reserved_seqs": 200}


async def test_finishing_stores_the_answer_and_writes_back_what_was_used(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    answer_id = new_id()

    message = await records.finish(turn, FINISHED, answer_id=answer_id, last_seq=17)

    assert message is not None
    assert (message.message_id, message.content) == (answer_id, "Plants grow.")
    assert await only_row(database, "SELECT last_seq, message_count FROM conversations") == {
        "last_seq": 17,
        "message_count": 2,
    }
    row = await only_row(database, "SELECT state, finish_reason, answer_id, usage, finished_at FROM turns")
    assert row.pop("finished_at") is not None
    assert row == {
        "state": "finished",
        "finish_reason": "stop",
        "answer_id": answer_id,
        "usage": {"prompt_tokens": 12, "completion_tokens": 5},
    }


async def test_citations_are_stored_without_the_addresses_that_expire(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    message = await records.finish(turn, FINISHED, answer_id=new_id(), last_seq=17)

    row = await only_row(database, "SELECT details FROM messages WHERE sender = 'assistant'")
    assert "source_url" not in row["details"]["citations"][0]
    assert message is not None
    assert message.metadata.citations[0]["source_url"].startswith("/knowledge/")


async def test_an_answer_does_not_cite_what_was_deleted_while_it_was_written(
    database: SavepointDatabase, stored_school: School
) -> None:
    links = Links()
    records = records_of(database, "here", links=links)
    kept, opening = replace(citation(), marker=2, source_id=new_id()), {"type": "open_source", "payload": {"marker": 1}}
    said = reply("Sugar [1], from light [2].", citations=(citation(), kept), actions=(opening,))
    outcome = Outcome(state="finished", finish_reason="stop", text=said.text, reply=said)
    links.deleted = {citation().source_id}

    turn = await begun(database, records, stored_school)
    message = await records.finish(turn, outcome, answer_id=new_id(), last_seq=17)

    assert message is not None
    assert (message.content, message.metadata.actions) == (said.text, [])
    assert [cited["source_id"] for cited in message.metadata.citations] == [str(kept.source_id)]
    assert message.metadata.grounded is True


async def test_an_answer_all_of_whose_sources_were_deleted_is_not_grounded(
    database: SavepointDatabase, stored_school: School
) -> None:
    links = Links()
    records = records_of(database, "here", links=links)
    links.deleted = {citation().source_id}

    turn = await begun(database, records, stored_school)
    message = await records.finish(turn, FINISHED, answer_id=new_id(), last_seq=17)

    assert message is not None
    assert (message.metadata.citations, message.metadata.grounded) == ([], False)


async def test_an_action_that_opens_a_source_has_the_address_of_its_citation(
    records: TurnRecords, turn: StartedTurn
) -> None:
    opening = {"type": "open_source", "payload": {"marker": 1, "url": "https://expired.example/"}}
    said = reply("Sugar [1].", actions=(opening,))
    outcome = Outcome(state="finished", finish_reason="stop", text=said.text, reply=said)

    message = await records.finish(turn, outcome, answer_id=new_id(), last_seq=17)

    assert message is not None
    [action], [cited] = message.metadata.actions, message.metadata.citations
    assert action["payload"] == {"marker": 1, "url": cited["source_url"]}
    assert "signature=now" in action["payload"]["url"]


async def test_finishing_again_after_a_commit_that_was_not_confirmed_changes_nothing(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    answer_id = new_id()
    first = await records.finish(turn, FINISHED, answer_id=answer_id, last_seq=17)

    second = await records.finish(turn, FINISHED, answer_id=answer_id, last_seq=17)

    assert second == first
    assert await only_row(database, "SELECT message_count FROM conversations") == {"message_count": 2}
    assert len(await rows(database, "SELECT id FROM analytics_events WHERE event_type = 'turn_finished'")) == 1


async def test_a_failure_without_text_stores_no_message(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    error = ErrorFacts(code="model_unavailable", message="No", retry_after=None)
    outcome = Outcome(state="failed", finish_reason="error", text="", error=error)

    assert await records.finish(turn, outcome, answer_id=new_id(), last_seq=5) is None
    assert await records.finish(turn, outcome, answer_id=new_id(), last_seq=5) is None

    assert await only_row(database, "SELECT state, answer_id FROM turns") == {"state": "failed", "answer_id": None}
    event = await only_row(database, "SELECT payload FROM analytics_events WHERE event_type = 'turn_finished'")
    assert event["payload"]["error_code"] == "model_unavailable"


async def test_a_renewed_lease_is_whole_again(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    await silence(database, turn.turn_id)

    held = await records.renew([turn.turn_id])

    assert held == {turn.turn_id}
    assert await records.end_expired() == []


async def test_a_lease_of_another_owner_is_not_renewed(database: SavepointDatabase, turn: StartedTurn) -> None:
    assert await records_of(database, "elsewhere").renew([turn.turn_id]) == set()


@pytest.mark.usefixtures("turn")
async def test_a_live_turn_is_left_alone(database: SavepointDatabase) -> None:
    assert await records_of(database, "elsewhere").end_expired() == []

    assert await only_row(database, "SELECT state FROM turns") == {"state": "running"}


async def test_a_silent_owner_s_turn_is_ended_as_lost_with_numbers_past_its_block(
    database: SavepointDatabase, turn: StartedTurn
) -> None:
    await silence(database, turn.turn_id)

    [lost] = await records_of(database, "elsewhere").end_expired()

    assert (lost.turn_id, lost.session_id, lost.first_seq) == (turn.turn_id, turn.session_id, 101)
    assert await only_row(database, "SELECT state, finish_reason FROM turns") == {
        "state": "lost",
        "finish_reason": "error",
    }
    assert await only_row(database, "SELECT last_seq FROM conversations") == {"last_seq": 102}


async def test_lost_turns_of_every_tenant_are_ended(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    other_school = School()
    async with database.superuser() as connection:
        await other_school.store(connection)
    other = await begun(database, records, other_school)
    await silence(database, turn.turn_id)
    await silence(database, other.turn_id)

    lost = await records.end_expired()

    assert {one.turn_id for one in lost} == {turn.turn_id, other.turn_id}
    assert await records.end_expired() == []


async def test_an_owner_that_was_declared_dead_may_do_nothing_more(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    await silence(database, turn.turn_id)
    await records_of(database, "elsewhere").end_expired()

    with pytest.raises(LeaseLost):
        await records.reserve(turn)
    with pytest.raises(LeaseLost):
        await records.finish(turn, FINISHED, answer_id=new_id(), last_seq=17)

    assert await records.renew([turn.turn_id]) == set()
    assert await only_row(database, "SELECT last_seq, message_count FROM conversations") == {
        "last_seq": 102,
        "message_count": 1,
    }


async def test_nobody_finishes_another_owner_s_turn(database: SavepointDatabase, turn: StartedTurn) -> None:
    with pytest.raises(LeaseLost):
        await records_of(database, "elsewhere").finish(turn, FINISHED, answer_id=new_id(), last_seq=17)


async def test_a_turn_of_an_erased_session_is_not_ours_any_more(
    database: SavepointDatabase, records: TurnRecords, turn: StartedTurn
) -> None:
    async with database.unit_of_work(turn.org_id) as session:
        repository = ChatRepository(session, turn.org_id)
        conversation = await repository.lock_conversation(turn.session_id)
        assert conversation is not None
        await repository.erase(conversation)

    with pytest.raises(LeaseLost):
        await records.finish(turn, FINISHED, answer_id=new_id(), last_seq=17)

    assert await rows(database, "SELECT id FROM messages") == []
