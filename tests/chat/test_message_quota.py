"""A question costs one message, which comes back only where its turn ends without a word."""

import asyncio
from typing import Any

import pytest

from bwenge.chat.settings import ChatSettings
from bwenge.kit.db import Database
from bwenge.kit.errors import Unavailable
from bwenge.kit.ids import new_id
from bwenge.persona.contract import ReplyDelta
from tests.chat.conftest import ChatServer, StartServer
from tests.chat.scripted import Gate, ScriptedReplies, Step, answering, kinds, only, reply
from tests.support.quotas import acts, drifted, leave

EAGER_REAPER = ChatSettings(reap_seconds=0.05, drain_seconds=0.2)


class ModelAway(Unavailable):
    """The model gives no answer."""


async def states(server: ChatServer, database: Database) -> list[Any]:
    assert await drifted(database) == []
    return [(act["kind"], act["amount"], act["state"]) for act in await acts(database, server.school.org_id)]


async def test_an_answered_question_is_one_message(server: ChatServer, committed_database: Database) -> None:
    client = await server.opened()
    started = only(await client.whole_turn(), "turn_started")

    [act] = await acts(committed_database, server.school.org_id)
    assert str(act["act_id"]) == started["turn_id"]
    assert await states(server, committed_database) == [("messages", 1, "settled")]


async def test_a_question_that_is_sent_twice_is_one_message(server: ChatServer, committed_database: Database) -> None:
    client = await server.opened()
    client_msg_id = await client.ask("What is it?")
    await client.until("turn_finished")
    await client.ask("What is it?", client_msg_id=client_msg_id)
    await client.answers_to_ping()
    assert await states(server, committed_database) == [("messages", 1, "settled")]


async def test_a_used_up_plan_refuses_the_question_with_what_to_do_and_keeps_the_socket(
    server: ChatServer, committed_database: Database
) -> None:
    await leave(committed_database, server.school.org_id, 1)
    client = await server.opened()
    await client.whole_turn()
    await client.ask("And now?")
    refusal = await client.receive()

    assert (refusal["type"], refusal["code"]) == ("error", "quota_exhausted")
    assert "turn_id" not in refusal
    assert refusal["message"].startswith("The 500 messages of the Free plan are used up until ")
    assert refusal["message"].endswith("ask an administrator of your organisation to choose a larger plan")
    assert await client.answers_to_ping() == []
    assert await server.rows("SELECT count(*) AS questions FROM messages WHERE sender = 'user'") == [{"questions": 1}]
    assert await states(server, committed_database) == [("messages", 1, "settled")]


async def test_a_refused_first_question_leaves_no_session(server: ChatServer, committed_database: Database) -> None:
    await leave(committed_database, server.school.org_id, 0)
    client = await server.opened()
    await client.ask("What is it?")
    assert kinds([await client.receive()]) == ["error"]
    assert await server.rows("SELECT id FROM conversations") == []


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ([ModelAway()], "released"),
        ([ReplyDelta("Plants "), ModelAway()], "settled"),
        ([reply("", finish_reason="error", error_code="model_unavailable")], "released"),
        ([ReplyDelta("Plants "), reply("Plants ", finish_reason="error")], "settled"),
        ([reply("")], "released"),
    ],
    ids=["fails at once", "fails in the middle", "breaks at once", "breaks in the middle", "says nothing"],
)
async def test_a_turn_that_fails_gives_its_message_back_if_it_said_nothing(
    start_server: StartServer, committed_database: Database, script: list[Step], state: str
) -> None:
    server = await start_server(ScriptedReplies(script))
    await (await server.opened()).whole_turn()
    assert await states(server, committed_database) == [("messages", 1, state)]


@pytest.mark.parametrize(("said", "state"), [([], "released"), ([ReplyDelta("Plants ")], "settled")])
async def test_a_cancelled_turn_gives_its_message_back_if_it_said_nothing(
    start_server: StartServer, committed_database: Database, said: list[Step], state: str
) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([*said, gate, *answering("late")]))
    client = await server.opened()
    await client.ask("What is it?")
    [*_, started] = await client.until("turn_started")
    await gate.wait_until_reached()
    assert await states(server, committed_database) == [("messages", 1, "reserved")]
    await client.send(type="cancel", turn_id=started["turn_id"])
    await client.until("turn_finished")
    assert await states(server, committed_database) == [("messages", 1, state)]


async def test_a_lost_turn_gives_its_message_back(start_server: StartServer, committed_database: Database) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([gate]), EAGER_REAPER)
    client = await server.opened()
    await client.ask("What is it?")
    await gate.wait_until_reached()
    await server.rows("UPDATE turns SET lease_until = now() - interval '1 second', owner = 'a process that died'")
    assert only(await client.until("turn_finished"), "error")["code"] == "turn_lost"
    assert await states(server, committed_database) == [("messages", 1, "released")]


async def test_a_session_that_is_deleted_while_it_answers_has_used_its_message(
    start_server: StartServer, committed_database: Database
) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Plants "), gate]))
    client = await server.opened()
    await client.ask("What is it?")
    await gate.wait_until_reached()
    assert (await server.request("DELETE", f"/sessions/{client.session_id}")).status_code == 204
    assert await states(server, committed_database) == [("messages", 1, "settled")]


async def test_of_questions_at_once_only_as_many_as_are_left_are_answered(
    server: ChatServer, committed_database: Database
) -> None:
    await leave(committed_database, server.school.org_id, 2)
    clients = [await server.opened() for _ in range(6)]
    await asyncio.gather(*(client.ask("What is it?", client_msg_id=new_id()) for client in clients))
    first = [await client.receive() for client in clients]
    assert sorted(frame["type"] for frame in first) == ["error"] * 4 + ["message"] * 2
    for client, frame in zip(clients, first, strict=True):
        if frame["type"] == "message":
            await client.until("turn_finished")
    assert await states(server, committed_database) == [("messages", 1, "settled")] * 2
