"""Questions of one session that arrive at the same moment: one row lock decides between them."""

import asyncio
from uuid import UUID

import pytest

from bwenge.chat.errors import TurnInProgress
from bwenge.chat.schemas import MessageBody
from bwenge.chat.turn_records import Question
from bwenge.kit.ids import new_id
from tests.chat.conftest import ChatServer, StartServer
from tests.chat.scripted import Gate, ScriptedReplies, answering

TWINS = 4


@pytest.fixture
async def server(start_server: StartServer) -> ChatServer:
    """Answers the first question of all, and then none."""
    return await start_server(ScriptedReplies(answering("Yes."), [Gate()]))


@pytest.fixture(params=["new", "known"])
async def session_id(request: pytest.FixtureRequest, server: ChatServer) -> UUID:
    """Of a session that is not stored yet, where inserting it decides, or of one that is, where only its lock does."""
    if request.param == "new":
        server.replies.scripts.pop(0)
        return new_id()
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("turn_finished")
    await server.rows("DELETE FROM turns")
    await server.rows("DELETE FROM messages")
    return UUID(client.session_id)


async def ask_at_once(
    server: ChatServer, session_id: UUID, *client_msg_ids: UUID
) -> list[list[MessageBody] | BaseException]:
    questions = [
        Question(session_id, server.school.persona_id, content="What is photosynthesis?", client_msg_id=client_msg_id)
        for client_msg_id in client_msg_ids
    ]
    asking = (server.feature.service.ask(server.school.learner, question) for question in questions)
    return await asyncio.gather(*asking, return_exceptions=True)


async def test_one_question_sent_several_times_at_once_is_handled_once(server: ChatServer, session_id: UUID) -> None:
    outcomes = await ask_at_once(server, session_id, *[new_id()] * TWINS)

    assert outcomes == [[]] * TWINS
    assert len(await server.rows("SELECT id FROM messages")) == 1
    assert len(await server.rows("SELECT id FROM turns")) == 1


async def test_of_several_questions_at_once_one_is_answered_and_the_others_are_told(
    server: ChatServer, session_id: UUID
) -> None:
    outcomes = await ask_at_once(server, session_id, *(new_id() for _ in range(TWINS)))

    assert [outcome for outcome in outcomes if not isinstance(outcome, TurnInProgress)] == [[]]
    assert len(await server.rows("SELECT id FROM messages")) == 1
    assert await server.rows("SELECT state FROM turns") == [{"state": "running"}]
