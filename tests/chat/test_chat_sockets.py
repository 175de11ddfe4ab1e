"""The story of a socket, over a real server and a real database."""

import asyncio
import json
from dataclasses import replace
from uuid import UUID, uuid4

from bwenge.persona.contract import ReplyAnimation, ReplyDelta
from tests.chat.conftest import ChatServer, StartServer
from tests.chat.scripted import (
    Gate,
    ScriptedReplies,
    answering,
    citation,
    joined,
    kinds,
    numbers,
    only,
    reply,
)


async def test_a_new_session_is_announced_with_its_id_and_nothing_in_it(server: ChatServer) -> None:
    client = await server.connect()

    info = await client.receive()

    UUID(info["session_id"])
    assert info == {
        "type": "session_info",
        "session_id": info["session_id"],
        "persona_id": str(server.school.persona_id),
        "message_count": 0,
        "last_seq": 0,
        "resumed": False,
    }


async def test_a_session_is_stored_with_its_first_question_and_not_before(server: ChatServer) -> None:
    client = await server.opened()
    before = await server.rows("SELECT id FROM conversations")

    await client.whole_turn("  What is\nphotosynthesis? ")

    [row] = await server.rows("SELECT id, title, user_id FROM conversations")
    assert before == []
    assert str(row["id"]) == client.session_id
    assert row["title"] == "What is photosynthesis?"
    assert row["user_id"] == server.school.learner_id


async def test_a_turn_has_the_frames_of_the_protocol_in_its_order(server: ChatServer) -> None:
    client = await server.opened()

    frames = await client.whole_turn()

    assert kinds(frames) == [
        "message",
        "typing",
        "turn_started",
        "animation",
        "delta",
        "delta",
        "delta",
        "message",
        "typing",
        "turn_finished",
    ]
    assert {frame["session_id"] for frame in frames} == {client.session_id}


async def test_numbers_rise_by_one_over_the_turns_of_a_session(server: ChatServer) -> None:
    client = await server.opened()

    first = await client.whole_turn()
    second = await client.whole_turn()

    assert numbers(first) == list(range(1, 9))
    assert numbers(second) == list(range(9, 17))
    assert [frame["type"] for frame in first if "seq" not in frame] == ["typing", "typing"]


async def test_each_frame_has_exactly_its_fields(server: ChatServer) -> None:
    client = await server.opened()

    frames = await client.whole_turn()

    fields = {frame["type"]: set(frame) - {"type", "session_id"} for frame in frames}
    assert fields == {
        "message": {"seq", "message"},
        "typing": {"is_typing", "who"},
        "turn_started": {"seq", "turn_id", "message_id"},
        "animation": {"seq", "animation", "turn_id"},
        "delta": {"seq", "turn_id", "text"},
        "turn_finished": {"seq", "turn_id", "finish_reason", "usage"},
    }


async def test_the_question_and_the_answer_are_told_as_stored_messages(server: ChatServer) -> None:
    client = await server.opened()

    frames = await client.whole_turn("Why are leaves green?")

    question, answer = (frame["message"] for frame in frames if frame["type"] == "message")
    assert question["sender"] == "user"
    assert question["content"] == "Why are leaves green?"
    assert question["timestamp"].endswith("Z")
    assert question["metadata"] == {
        "citations": [],
        "animation_hint": None,
        "actions": [],
        "grounded": None,
        "model": None,
        "finish_reason": None,
    }
    assert answer["sender"] == "assistant"
    assert answer["content"] == joined(frames) == "Plants make sugar from light [1]."
    metadata = answer["metadata"]
    assert (metadata["grounded"], metadata["model"], metadata["finish_reason"]) == (True, "scripted-1", "stop")
    assert metadata["animation_hint"] == "explaining"
    assert metadata["actions"] == [{"type": "suggest_question", "payload": {"text": "Why green?"}}]
    [citation] = metadata["citations"]
    assert citation["marker"] == 1
    assert citation["locator"] == {"page": 3, "char_start": 0, "char_end": 29}
    assert "signature=now" in citation["source_url"]
    assert only(frames, "turn_started")["message_id"] == question["message_id"]
    assert only(frames, "turn_finished")["usage"] == {"prompt_tokens": 12, "completion_tokens": 5}


async def test_the_counter_is_written_back_to_what_was_used(server: ChatServer) -> None:
    client = await server.opened()

    frames = await client.whole_turn()

    [row] = await server.rows("SELECT last_seq, message_count FROM conversations")
    assert row == {"last_seq": numbers(frames)[-1], "message_count": 2}


async def test_a_turn_leaves_its_events_and_no_text_in_them(server: ChatServer) -> None:
    client = await server.opened()

    frames = await client.whole_turn("A secret question")

    sent, finished = await server.rows("SELECT * FROM analytics_events ORDER BY id")
    assert (sent["event_type"], finished["event_type"]) == ("message_sent", "turn_finished")
    assert str(sent["session_id"]) == client.session_id
    assert sent["user_id"] == server.school.learner_id
    assert finished["payload"]["turn_id"] == only(frames, "turn_finished")["turn_id"]
    assert finished["payload"]["grounded"] is True
    assert "secret" not in json.dumps([sent["payload"], finished["payload"]])


async def test_the_persona_is_given_the_messages_before_the_question(server: ChatServer) -> None:
    client = await server.opened()
    await client.whole_turn("What is photosynthesis?")

    await client.whole_turn("And respiration?")

    first, second = server.replies.requests
    assert (first.question, first.history) == ("What is photosynthesis?", ())
    assert second.question == "And respiration?"
    assert [(message.role, message.content) for message in second.history] == [
        ("user", "What is photosynthesis?"),
        ("assistant", "Plants make sugar from light [1]."),
    ]


# Sent twice, handled once.


async def test_a_question_sent_again_after_its_answer_is_answered_with_what_is_stored(server: ChatServer) -> None:
    client = await server.opened()
    client_msg_id = await client.ask("What is photosynthesis?")
    turn = await client.until("turn_finished")

    await client.ask("What is photosynthesis?", client_msg_id=client_msg_id)
    again = await client.answers_to_ping()

    assert [frame["history"] for frame in again] == [True, True]
    assert [frame["message"] for frame in again] == [frame["message"] for frame in turn if frame["type"] == "message"]
    assert numbers(again) == []
    assert len(server.replies.requests) == 1
    assert len(await server.rows("SELECT id FROM messages")) == 2


async def test_a_question_sent_again_while_it_is_answered_changes_nothing(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]))
    client = await server.opened()
    client_msg_id = await client.ask("Is it?")
    await client.until("delta")

    await client.ask("Is it?", client_msg_id=client_msg_id)
    meanwhile = await client.answers_to_ping()
    gate.opened.set()
    rest = await client.until("turn_finished")

    assert meanwhile == []
    assert kinds(rest) == ["message", "typing", "turn_finished"]
    assert len(server.replies.requests) == 1


async def test_a_second_question_while_the_first_is_answered_is_refused_and_not_stored(
    start_server: StartServer,
) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")], answering("Again.")))
    client = await server.opened()
    await client.ask("First?")
    await client.until("delta")

    await client.ask("Second?")
    refusal = await client.receive()
    stored = await server.rows("SELECT content FROM messages")
    gate.opened.set()
    await client.until("turn_finished")
    after = await client.whole_turn("Second?")

    assert refusal["type"] == "error"
    assert refusal["code"] == "turn_in_progress"
    assert "turn_id" not in refusal
    assert "seq" not in refusal
    assert stored == [{"content": "First?"}]
    assert joined(after) == "Again."


# Cancel.


async def test_a_cancelled_turn_stores_what_was_streamed(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyAnimation("thinking"), ReplyDelta("Plants "), gate]))
    client = await server.opened()
    await client.ask("What is photosynthesis?")
    started = await client.until("delta")
    turn_id = only(started, "turn_started")["turn_id"]

    await client.send(type="cancel", turn_id=turn_id)
    ending = await client.until("turn_finished")

    assert kinds(ending) == ["message", "typing", "turn_finished"]
    assert ending[0]["message"]["content"] == "Plants "
    assert ending[0]["message"]["metadata"]["finish_reason"] == "cancelled"
    assert ending[0]["message"]["metadata"]["animation_hint"] == "thinking"
    assert (ending[-1]["turn_id"], ending[-1]["finish_reason"]) == (turn_id, "cancelled")
    assert server.replies.closed.is_set()
    [turn] = await server.rows("SELECT state, finish_reason FROM turns")
    assert turn == {"state": "cancelled", "finish_reason": "cancelled"}


async def test_what_a_cancelled_answer_had_cited_by_then_can_be_opened(start_server: StartServer) -> None:
    cited, unsaid = ReplyDelta("From light [1]", (citation(),)), replace(citation(), marker=2)
    server = await start_server(ScriptedReplies([cited, ReplyDelta(" and", (unsaid,)), Gate()]))
    client = await server.opened()
    await client.ask("What is photosynthesis?")
    await client.until("delta")
    started = await client.until("delta")

    await client.send(type="cancel", turn_id=started[-1]["turn_id"])
    [answer, *_] = await client.until("turn_finished")

    metadata = answer["message"]["metadata"]
    assert [cited["marker"] for cited in metadata["citations"]] == [1]
    assert "signature=now" in metadata["citations"][0]["source_url"]
    assert metadata["grounded"] is True


async def test_a_turn_cancelled_before_its_first_delta_has_no_answer(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([gate]))
    client = await server.opened()
    await client.ask("What is photosynthesis?")
    [*_, started] = await client.until("turn_started")
    await gate.wait_until_reached()

    await client.send(type="cancel", turn_id=started["turn_id"])
    ending = await client.until("turn_finished")

    assert kinds(ending) == ["typing", "turn_finished"]
    assert await server.rows("SELECT sender FROM messages") == [{"sender": "user"}]


async def test_cancelling_another_turn_changes_nothing(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]))
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")

    await client.send(type="cancel", turn_id=str(uuid4()))
    gate.opened.set()
    ending = await client.until("turn_finished")

    assert ending[-1]["finish_reason"] == "stop"


# A closed connection, and more than one.


async def test_a_closed_connection_does_not_stop_the_turn(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(
        ScriptedReplies([ReplyDelta("Plants "), gate, ReplyDelta("grow."), reply("Plants grow.")])
    )
    client = await server.opened()
    await client.ask("What is photosynthesis?")
    await client.until("delta")

    await client.connection.close()
    second = await server.connect(session_id=client.session_id)
    greeting = [await second.receive(), await second.receive()]
    gate.opened.set()
    rest = await second.until("turn_finished")

    assert greeting[0]["active_turn_id"] == rest[-1]["turn_id"]
    assert greeting[1]["message"]["content"] == "What is photosynthesis?"
    assert greeting[1]["history"] is True
    assert kinds(rest) == ["delta", "message", "typing", "turn_finished"]
    assert rest[1]["message"]["content"] == "Plants grow."


async def test_an_answer_that_nobody_watches_is_stored(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(
        ScriptedReplies([ReplyDelta("Plants "), gate, ReplyDelta("grow."), reply("Plants grow.")])
    )
    client = await server.opened()
    await client.ask("What is photosynthesis?")
    await client.until("delta")
    await client.connection.close()

    gate.opened.set()
    await server.feature.drain()

    answers = await server.rows("SELECT content FROM messages WHERE sender = 'assistant'")
    assert answers == [{"content": "Plants grow."}]


async def test_every_socket_of_a_session_receives_each_frame(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies(answering("One."), [gate, *answering("Two.")]))
    phone = await server.opened()
    await phone.whole_turn()
    desktop = await server.opened(session_id=phone.session_id)
    await desktop.until("message")
    await desktop.until("message")

    await phone.ask("And again?")
    await gate.wait_until_reached()
    gate.opened.set()
    on_phone, on_desktop = await asyncio.gather(phone.until("turn_finished"), desktop.until("turn_finished"))

    assert on_desktop == on_phone


async def test_a_session_shows_its_last_ten_messages_as_history(server: ChatServer) -> None:
    client = await server.opened()
    for position in range(6):
        await client.whole_turn(f"Question {position}?")

    second = await server.connect(session_id=client.session_id)
    info = await second.receive()
    history = [await second.receive() for _ in range(10)]

    assert (info["message_count"], info["last_seq"]) == (12, 48)
    assert "active_turn_id" not in info
    assert {frame["history"] for frame in history} == {True}
    assert numbers(history) == []
    questions = [frame["message"]["content"] for frame in history if frame["message"]["sender"] == "user"]
    assert questions == [f"Question {position}?" for position in range(1, 6)]
    assert await second.answers_to_ping() == []


async def test_a_text_socket_receives_sentences_and_no_gestures(start_server: StartServer) -> None:
    deltas = ("Plants ", "make ", "sugar.", " It ", "is ", "sweet")
    server = await start_server(ScriptedReplies(answering(*deltas)))
    client = await server.opened(detail="text")

    frames = await client.whole_turn()

    assert kinds(frames) == [
        "message",
        "typing",
        "turn_started",
        "delta",
        "delta",
        "message",
        "typing",
        "turn_finished",
    ]
    assert [frame["text"] for frame in frames if frame["type"] == "delta"] == ["Plants make sugar.", " It is sweet"]
    assert numbers(frames) == [1, 2, 6, 9, 10, 11]


# Refused before the handshake.
