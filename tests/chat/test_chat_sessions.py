"""Sessions over HTTP."""

import asyncio
from typing import Any

from bwenge.kit.ids import new_id
from bwenge.persona.contract import ReplyDelta
from tests.chat.conftest import ChatServer, StartServer
from tests.chat.scripted import Gate, School, ScriptedReplies, reply


async def body(server: ChatServer, path: str, **params: Any) -> dict[str, Any]:
    response = await server.request("GET", path, **params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_own_sessions_are_listed_newest_first(server: ChatServer) -> None:
    first = await server.opened()
    await first.whole_turn("What is photosynthesis?")
    second = await server.opened()
    await second.whole_turn("What is " + "very " * 20 + "long?")
    classmate = await server.opened(principal=server.school.classmate)
    await classmate.whole_turn("Mine?")

    answer = await body(server, "/sessions")

    assert [item["session_id"] for item in answer["items"]] == [second.session_id, first.session_id]
    assert answer["next_cursor"] is None
    newest, oldest = answer["items"]
    assert set(oldest) == {"session_id", "persona_id", "title", "message_count", "created_at", "updated_at"}
    assert (oldest["title"], oldest["message_count"]) == ("What is photosynthesis?", 2)
    assert oldest["persona_id"] == str(server.school.persona_id)
    assert oldest["updated_at"].endswith("Z")
    assert newest["title"] == "What is" + " very" * 14 + "…"


async def test_sessions_are_paged_by_cursor(server: ChatServer) -> None:
    sessions = []
    for _ in range(3):
        client = await server.opened()
        await client.whole_turn()
        sessions.append(client.session_id)

    first = await body(server, "/sessions", limit=2)
    second = await body(server, "/sessions", limit=2, cursor=first["next_cursor"])

    listed = [item["session_id"] for page in (first, second) for item in page["items"]]
    assert listed == sessions[::-1]
    assert second["next_cursor"] is None


async def test_a_session_s_messages_are_those_of_the_socket(server: ChatServer) -> None:
    client = await server.opened()
    frames = await client.whole_turn()

    answer = await body(server, f"/sessions/{client.session_id}/messages")

    assert answer == {
        "session_id": client.session_id,
        "messages": [frame["message"] for frame in frames if frame["type"] == "message"],
        "total": 2,
    }


async def test_messages_are_paged_by_limit_and_offset(server: ChatServer) -> None:
    client = await server.opened()
    for position in range(3):
        await client.whole_turn(f"Question {position}?")

    answer = await body(server, f"/sessions/{client.session_id}/messages", limit=2, offset=3)

    assert answer["total"] == 6
    assert [message["content"] for message in answer["messages"]] == [
        "Plants make sugar from light [1].",
        "Question 2?",
    ]


async def test_pages_out_of_range_are_refused(server: ChatServer) -> None:
    client = await server.opened()
    await client.whole_turn()

    for wrong in ({"limit": 0}, {"limit": 101}, {"offset": -1}, {"offset": 2**40}, {"limit": "many"}):
        response = await server.request("GET", f"/sessions/{client.session_id}/messages", **wrong)
        assert response.status_code == 422


async def test_foreign_deleted_and_malformed_sessions_answer_as_unknown_ones(server: ChatServer) -> None:
    other_school = School()
    async with server.engine.begin() as connection:
        await other_school.store(connection)
    foreign = await server.opened(principal=other_school.learner, persona_id=other_school.persona_id)
    classmate = await server.opened(principal=server.school.classmate)
    deleted = await server.opened()
    for client in (foreign, classmate, deleted):
        await client.whole_turn()
    await server.request("DELETE", f"/sessions/{deleted.session_id}")

    answers = []
    for session_id in (new_id(), foreign.session_id, classmate.session_id, deleted.session_id, "yesterday"):
        for method, path in (("GET", f"/sessions/{session_id}/messages"), ("DELETE", f"/sessions/{session_id}")):
            response = await server.request(method, path)
            problem = response.json()
            del problem["request_id"]
            answers.append((response.status_code, problem))

    assert answers[0][0] == 404
    assert answers == [answers[0]] * 10


async def test_nobody_without_a_token_sees_sessions(server: ChatServer) -> None:
    response = await server.http.get("/sessions")

    assert response.status_code == 401


async def test_a_deleted_session_is_gone_with_all_that_was_said(server: ChatServer) -> None:
    client = await server.opened()
    await client.whole_turn("A secret?")

    response = await server.request("DELETE", f"/sessions/{client.session_id}")

    assert response.status_code == 204
    assert await server.rows("SELECT id FROM messages") == []
    assert await server.rows("SELECT id FROM turns") == []
    assert await server.rows("SELECT title, message_count FROM conversations") == [{"title": "", "message_count": 0}]
    assert (await body(server, "/sessions"))["items"] == []


async def test_deleting_a_session_closes_its_sockets_with_4404(server: ChatServer) -> None:
    phone = await server.opened()
    await phone.whole_turn()
    desktop = await server.opened(session_id=phone.session_id)
    other = await server.opened()

    await server.request("DELETE", f"/sessions/{phone.session_id}")

    assert (await phone.close_code(), await desktop.close_code()) == (4404, 4404)
    assert await other.answers_to_ping() == []


async def test_deleting_a_session_ends_its_turn_and_stores_nothing_of_it(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]))
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")

    await server.request("DELETE", f"/sessions/{client.session_id}")
    async with asyncio.timeout(10):
        await server.replies.closed.wait()
    await server.feature.drain()

    assert await client.close_code() == 4404
    assert await server.rows("SELECT id FROM messages") == []


async def test_a_question_to_a_session_deleted_elsewhere_closes_with_4404_and_stores_nothing(
    server: ChatServer,
) -> None:
    client = await server.opened()
    await client.whole_turn()
    await server.rows("UPDATE conversations SET deleted_at = now()")

    await client.ask("Are you there?")

    assert await client.close_code() == 4404
    assert len(await server.rows("SELECT id FROM messages")) == 2
