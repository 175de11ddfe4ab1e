"""What the chat socket refuses, and how it closes: each by the protocol's code."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bwenge.chat.protocol import MAX_FRAME_BYTES
from bwenge.chat.settings import ChatSettings
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.persona.contract import ReplyDelta
from tests.chat.conftest import ChatServer, StartServer
from tests.chat.scripted import (
    Gate,
    School,
    ScriptedReplies,
    answering,
    joined,
    kinds,
    numbers,
    reply,
)


async def refusal_of(server: ChatServer, **query: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        await server.connect(**query)
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.body or b"{}")
    assert body.pop("request_id")
    return response.status_code, body


async def test_a_bad_token_is_refused_with_401(server: ChatServer) -> None:
    status, body = await refusal_of(server, token="forged")

    assert (status, body["code"]) == (401, "unauthenticated")


async def test_the_token_may_stand_in_the_query(server: ChatServer) -> None:
    token = server.tokens.issue(server.school.learner)
    address = f"ws://{server.address}/ws/chat?persona_id={server.school.persona_id}&token={token}"

    async with connect(address, proxy=None) as connection:
        assert json.loads(await connection.recv())["type"] == "session_info"


async def test_no_token_is_refused_with_401(server: ChatServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{server.address}/ws/chat?persona_id={server.school.persona_id}", proxy=None)

    assert refused.value.response.status_code == 401


async def test_a_deactivated_member_is_refused_with_401(server: ChatServer) -> None:
    server.members.deactivated.add(server.school.learner_id)

    status, _ = await refusal_of(server)

    assert status == 401


async def test_foreign_and_malformed_personas_and_sessions_are_refused_as_unknown_ones(
    server: ChatServer,
) -> None:
    other_school = School()
    async with server.engine.begin() as connection:
        await other_school.store(connection)
    own = await server.opened()
    await own.whole_turn()
    foreign = await server.opened(principal=other_school.learner, persona_id=other_school.persona_id)
    await foreign.whole_turn()
    own_persona = str(server.school.persona_id)

    unknown = await refusal_of(server, persona_id=new_id())
    others = [
        await refusal_of(server, persona_id=other_school.persona_id),
        await refusal_of(server, persona_id="mwarimu"),
        await refusal_of(server, session_id=str(new_id())),
        await refusal_of(server, session_id=foreign.session_id),
        await refusal_of(server, session_id="yesterday"),
        await refusal_of(server, session_id=own.session_id, principal=server.school.classmate),
        await refusal_of(server, session_id=own.session_id, persona_id=own_persona, principal=other_school.learner),
    ]

    assert unknown[0] == 404
    assert unknown[1]["code"] == "not_found"
    assert others == [unknown] * len(others)


async def test_a_session_of_another_persona_is_refused_as_unknown(server: ChatServer) -> None:
    client = await server.opened()
    await client.whole_turn()
    second = new_id()
    async with server.engine.begin() as connection:
        await server.school.store_persona(connection, second)

    status, _ = await refusal_of(server, session_id=client.session_id, persona_id=second)

    assert status == 404


async def test_an_unknown_detail_is_refused_with_422(server: ChatServer) -> None:
    status, body = await refusal_of(server, detail="everything")

    assert (status, body["errors"][0]["field"]) == (422, "detail")


async def test_a_ninth_socket_of_a_user_is_refused_until_one_closes(server: ChatServer) -> None:
    clients = [await server.opened() for _ in range(8)]

    status, body = await refusal_of(server)
    await clients[0].connection.close()
    await server.opened(principal=server.school.classmate)

    assert (status, body["code"]) == (429, "rate_limited")
    await server.opened()


# Frames that are refused.


async def test_a_bad_frame_is_refused_and_the_connection_stays(server: ChatServer) -> None:
    client = await server.opened()

    await client.connection.send("not json")
    refusal = await client.receive()

    assert (refusal["type"], refusal["code"]) == ("error", "bad_frame")
    assert set(refusal) == {"type", "session_id", "code", "message"}
    assert await client.answers_to_ping() == []


async def test_a_question_of_8000_characters_is_answered_and_a_longer_one_refused(server: ChatServer) -> None:
    client = await server.opened()

    await client.ask("ĩ" * 8_001)
    refusal = await client.receive()
    frames = await client.whole_turn("ĩ" * 8_000)

    assert refusal["code"] == "too_long"
    assert len(frames[0]["message"]["content"]) == 8_000


async def test_typing_is_accepted_in_silence(server: ChatServer) -> None:
    client = await server.opened()

    await client.send(type="typing", is_typing=True)

    assert await client.answers_to_ping() == []


async def test_a_binary_frame_closes_with_1003(server: ChatServer) -> None:
    client = await server.opened()

    await client.connection.send(b'{"type": "ping"}')

    assert await client.close_code() == 1003


async def test_a_frame_of_64_kib_is_read_and_a_longer_one_closes_with_1009(server: ChatServer) -> None:
    client = await server.opened()
    ping = '{"type": "ping"}'

    await client.connection.send(ping.ljust(MAX_FRAME_BYTES))
    answer = await client.receive()
    await client.connection.send(ping.ljust(MAX_FRAME_BYTES + 1))

    assert answer["type"] == "pong"
    assert await client.close_code() == 1009


async def test_the_twenty_first_question_in_a_minute_is_refused_for_the_rest_of_it(server: ChatServer) -> None:
    client = await server.opened()
    client_msg_id = new_id()
    for _ in range(20):
        await client.ask("Again?", client_msg_id=client_msg_id)
    await client.until("turn_finished")
    await client.answers_to_ping()

    await client.ask("And now?")
    refusal = await client.receive()

    assert refusal["code"] == "rate_limited"
    assert 0 < refusal["retry_after"] <= 60
    assert "seq" not in refusal


async def test_a_question_to_an_inactive_persona_is_refused_and_not_stored(server: ChatServer) -> None:
    client = await server.opened()
    await server.rows("UPDATE personas SET is_active = false")

    await client.ask("Are you there?")
    refusal = await client.receive()

    assert refusal["code"] == "persona_unavailable"
    assert await server.rows("SELECT id FROM messages") == []


async def test_an_inactive_persona_is_as_unknown_to_a_learner_and_open_to_a_teacher(server: ChatServer) -> None:
    await server.rows("UPDATE personas SET is_active = false")

    status, body = await refusal_of(server)

    teacher = replace(server.school.learner, role=Role.EXPERT)
    assert (status, body["code"]) == (404, "not_found")
    assert (await server.opened(principal=teacher)).frames[-1]["type"] == "session_info"


async def test_a_question_to_a_persona_deleted_meanwhile_is_refused(server: ChatServer) -> None:
    client = await server.opened()
    await server.rows("UPDATE personas SET deleted_at = now()")

    await client.ask("Are you there?")

    assert (await client.receive())["code"] == "persona_unavailable"


# Closed by the server.


async def test_a_member_deactivated_meanwhile_is_closed_with_4403_at_the_next_question(server: ChatServer) -> None:
    client = await server.opened()
    server.members.deactivated.add(server.school.learner_id)

    await client.ask("May I?")

    assert await client.close_code() == 4403
    assert await server.rows("SELECT id FROM messages") == []


async def test_a_token_that_expires_before_the_first_question_closes_with_4401(server: ChatServer) -> None:
    token = server.tokens.issue(server.school.learner)
    client = await server.opened(token=token)
    server.tokens.expire(token)

    await client.ask("May I?")

    assert await client.close_code() == 4401


async def test_a_socket_outlives_its_token_after_the_first_question(server: ChatServer) -> None:
    token = server.tokens.issue(server.school.learner)
    client = await server.opened(token=token)
    await client.whole_turn()
    server.tokens.expire(token)

    frames = await client.whole_turn()

    assert frames[-1]["finish_reason"] == "stop"


async def test_a_reader_that_falls_behind_is_closed_with_1013_and_others_are_not(start_server: StartServer) -> None:
    text = "0123456789" * 100
    settings = ChatSettings(queue_frames=20, drain_seconds=0.2)
    server = await start_server(ScriptedReplies(answering("Yes."), answering(*[text] * 36)), settings)
    reader = await server.opened()
    await reader.whole_turn()
    sleeper = await server.connect_slowly(reader.session_id)

    turns = [await reader.whole_turn() for _ in range(4)]
    code = await sleeper.close_code()

    assert [joined(turn) for turn in turns] == [text * 36] * 4
    assert code == 1013
    assert len(numbers(sleeper.frames)) < len(numbers(reader.frames))


async def test_a_restart_lets_the_turn_finish_refuses_new_ones_and_closes_with_1012(
    start_server: StartServer,
) -> None:
    gate = Gate()
    server = await start_server(
        ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]), ChatSettings(drain_seconds=10)
    )
    busy, idle, asking = await server.opened(), await server.opened(), await server.opened()
    await busy.ask("Is it?")
    await busy.until("delta")

    draining = asyncio.create_task(server.feature.drain())
    idle_code = await idle.close_code()
    status, _ = await refusal_of(server)
    gate.opened.set()
    busy_code = await busy.close_code()
    await draining

    assert (idle_code, await asking.close_code(), busy_code) == (1012, 1012, 1012)
    assert status == 503
    assert busy.frames[-1]["type"] == "turn_finished"
    assert busy.frames[-1]["finish_reason"] == "stop"


async def test_during_a_restart_a_second_question_leaves_the_turn_that_runs_to_its_socket(
    start_server: StartServer,
) -> None:
    gate = Gate()
    server = await start_server(
        ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]), ChatSettings(drain_seconds=10)
    )
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")
    draining = asyncio.create_task(server.feature.drain())
    await asyncio.sleep(0)

    await client.ask("And why?")
    refusal = (await client.until("error"))[-1]
    gate.opened.set()
    await client.close_code()
    await draining

    assert refusal["code"] == "turn_in_progress"
    assert client.frames[-1]["finish_reason"] == "stop"


async def test_a_turn_that_outlasts_the_restart_stores_what_it_has_said(start_server: StartServer) -> None:
    server = await start_server(ScriptedReplies([ReplyDelta("Plants "), Gate()]), ChatSettings(drain_seconds=0.05))
    client = await server.opened()
    await client.ask("What is photosynthesis?")
    await client.until("delta")

    await server.feature.drain()
    code = await client.close_code()

    assert code == 1012
    assert kinds(client.frames)[-4:] == ["error", "message", "typing", "turn_finished"]
    assert client.frames[-4]["code"] == "turn_lost"
    assert client.frames[-3]["message"]["content"] == "Plants "
