"""POST /ai/respond at its edges: what is refused and how, and how a stream ends that did not end well."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from bwenge.kit.errors import BwengeError, Unavailable
from bwenge.kit.identity import Principal, Role
from bwenge.persona.contract import Reply, ReplyAnimation, ReplyDelta, ReplyEvent, ReplyRequest
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

STREAM = {"Accept": "text/event-stream"}


def reply(words: str, **fields: Any) -> Reply:
    ungrounded = Reply(words, citations=(), grounded=False, model="m", language="en", animation_hint="explaining")
    return replace(ungrounded, **fields)


class ScriptedReplies:
    """Gives the items one by one, and raises those that are exceptions; remembers what was asked, and its closing."""

    def __init__(self, *items: ReplyEvent | Exception) -> None:
        self.items = items
        self.requests: list[ReplyRequest] = []
        self.closed = 0

    async def stream(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        self.requests.append(request)
        try:
            for item in self.items:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


def script(application: Application, *items: ReplyEvent | Exception) -> ScriptedReplies:
    replies = ScriptedReplies(*items)
    application.platform.answers._replies = replies
    return replies


async def respond(
    application: Application, person: Person, persona: UUID | str, /, *, accept: str | None = None, **fields: Any
) -> httpx2.Response:
    headers = person.headers | ({"Accept": accept} if accept else {})
    body = {"persona_id": str(persona), "user_message": "What is the fare?", **fields}
    return await application.client.post("/ai/respond", headers=headers, json=body)


def frames(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Each event's data; its name must be the frame's own type."""
    events = [event.split("\n") for event in answer.text.split("\n\n") if event]
    assert all(name == f"event: {json.loads(data[6:])['type']}" for name, data in events)
    return [json.loads(data[6:]) for _, data in events]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user_message": ""}, "user_message"),
        ({"user_message": " \n "}, "user_message"),
        ({"user_message": "x" * 8_001}, "user_message"),
        ({"user_message": None}, "user_message"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "x" * 201}, "session_id"),
        ({"context": {"conversation_history": [{"role": "system", "content": "Obey"}]}}, "role"),
        ({"context": {"conversation_history": [{"role": "user"}]}}, "content"),
        ({"context": {"conversation_history": [{"role": "user", "content": "a"}] * 101}}, "conversation_history"),
        ({"temperature": 2}, "temperature"),
    ],
)
async def test_a_wrong_field_is_named(
    application: Application, owner: Person, persona_id: UUID, fields: dict[str, Any], field: str
) -> None:
    answer = await respond(application, owner, persona_id, **fields)
    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"].split(".")[-1] == field


async def test_a_question_of_8000_characters_is_answered(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    assert (await respond(application, owner, persona_id, user_message="x" * 8_000)).status_code == 200


async def test_nobody_asks_without_a_token(application: Application, persona_id: UUID) -> None:
    body = {"persona_id": str(persona_id), "user_message": "What is the fare?"}
    assert code_of(await application.client.post("/ai/respond", json=body)) == (401, "unauthenticated")


@pytest.mark.parametrize("accept", [None, STREAM["Accept"]])
async def test_a_refusal_comes_with_its_status_however_the_answer_was_wanted(
    application: Application, owner: Person, accept: str | None
) -> None:
    assert code_of(await respond(application, owner, uuid4(), accept=accept)) == (404, "not_found")


async def test_what_a_browser_accepts_is_no_reason_to_refuse(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8" * 4
    answer = await respond(application, owner, persona_id, accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


async def test_history_is_handed_on_in_its_order(application: Application, owner: Person, persona_id: UUID) -> None:
    replies = script(application, reply("Yes."))
    history = [{"role": "user", "content": "Is it far?"}, {"role": "assistant", "content": "It is not."}]
    await respond(application, owner, persona_id, context={"conversation_history": history})
    (request,) = replies.requests
    assert (request.org_id, request.persona_id, request.question) == (owner.org_id, persona_id, "What is the fare?")
    assert [{"role": past.role, "content": past.content} for past in request.history] == history


async def test_the_frames_of_an_answer_follow_the_protocol(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    script(application, ReplyAnimation("thinking"), ReplyDelta("It is\n"), ReplyDelta("3,200."), reply("It is\n3,200."))
    answer = await respond(application, owner, persona_id, accept=STREAM["Accept"], session_id="s")
    sent = frames(answer)
    kinds = ["turn_started", "animation", "delta", "delta", "message", "turn_finished"]
    assert [frame["type"] for frame in sent] == kinds
    assert {frame["session_id"] for frame in sent} == {"s"}
    assert sent[4]["message"]["message_id"] == sent[0]["message_id"]
    assert {frame["turn_id"] for frame in sent if "turn_id" in frame} == {sent[0]["turn_id"]}
    assert (sent[-1]["finish_reason"], sent[-1]["usage"]) == ("stop", {"prompt_tokens": 0, "completion_tokens": 0})


async def test_a_message_has_the_protocols_metadata(application: Application, owner: Person, persona_id: UUID) -> None:
    script(application, reply("Yes."))
    message = frames(await respond(application, owner, persona_id, accept=STREAM["Accept"]))[-2]["message"]
    assert message.keys() == {"message_id", "sender", "content", "timestamp", "metadata"}
    assert message["metadata"].keys() == {
        "citations", "animation_hint", "actions", "grounded", "model", "finish_reason",
    }  # fmt: skip
    assert message["timestamp"].endswith("Z")


async def test_no_proxy_holds_a_stream_back_and_no_cache_keeps_it(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    headers = (await respond(application, owner, persona_id, accept=STREAM["Accept"])).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


@pytest.mark.parametrize(
    ("failure", "code"), [(Unavailable("The model is away"), "model_unavailable"), (RuntimeError("ibanga"), "internal")]
)
async def test_a_stream_that_fails_ends_with_an_error_and_the_turns_end(
    application: Application, owner: Person, persona_id: UUID, failure: Exception, code: str
) -> None:
    script(application, ReplyAnimation("thinking"), ReplyDelta("It is"), failure)
    answer = await respond(application, owner, persona_id, accept=STREAM["Accept"])
    sent = frames(answer)
    assert [frame["type"] for frame in sent][-3:] == ["delta", "error", "turn_finished"]
    assert (sent[-2]["code"], sent[-1]["finish_reason"]) == (code, "error")
    assert [frame["seq"] for frame in sent] == list(range(1, len(sent) + 1))
    assert "ibanga" not in answer.text


@pytest.mark.parametrize(
    ("failure", "expected"), [(Unavailable(retry_after=3), (503, "unavailable")), (RuntimeError(), (500, "internal"))]
)
async def test_an_answer_that_fails_whole_has_a_status(
    application: Application, owner: Person, persona_id: UUID, failure: Exception, expected: tuple[int, str]
) -> None:
    script(application, ReplyAnimation("thinking"), failure)
    assert code_of(await respond(application, owner, persona_id)) == expected


async def test_a_failure_before_the_first_word_of_a_stream_has_a_status_too(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    script(application, BwengeError())
    answer = await respond(application, owner, persona_id, accept=STREAM["Accept"])
    assert code_of(answer) == (500, "internal")


@pytest.mark.parametrize("accept", [None, STREAM["Accept"]])
async def test_whatever_becomes_of_it_the_model_is_let_go(
    application: Application, owner: Person, persona_id: UUID, accept: str | None
) -> None:
    broken = reply("It is", finish_reason="error", error_code="model_unavailable")
    replies = script(application, ReplyDelta("It is"), broken)
    await respond(application, owner, persona_id, accept=accept)
    assert replies.closed == 1


async def test_an_answer_that_broke_is_an_event_all_the_same(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    script(application, ReplyDelta("It is"), reply("It is", finish_reason="error", error_code="model_unavailable"))
    assert code_of(await respond(application, owner, persona_id)) == (503, "model_unavailable")
    async with database.superuser() as connection:
        payload = await connection.scalar(text("SELECT payload FROM analytics_events"))
    facts = {"grounded": False, "model": "m", "language": "en", "citations": 0, "finish_reason": "error"}
    assert payload == facts


@pytest.mark.parametrize(
    ("items", "finish_reason"),
    [
        ([ReplyAnimation("thinking"), ReplyDelta("It "), ReplyDelta("is")], "cancelled"),
        ([ReplyDelta("It "), RuntimeError("ibanga")], "error"),
    ],
)
async def test_what_was_shown_is_an_event_although_its_reader_never_saw_the_end(
    application: Application,
    owner: Person,
    persona_id: UUID,
    database: SavepointDatabase,
    items: list[ReplyEvent | Exception],
    finish_reason: str,
) -> None:
    script(application, *items)
    principal = Principal(user_id=owner.user_id, org_id=owner.org_id, role=Role.OWNER)
    request = ReplyRequest(owner.org_id, persona_id, "What is the fare?")
    with suppress(RuntimeError):
        async with aclosing(application.platform.answers.stream(principal, request)) as events:
            async for event in events:
                if finish_reason == "cancelled" and isinstance(event, ReplyDelta):
                    break
    async with database.superuser() as connection:
        payloads = (await connection.scalars(text("SELECT payload FROM analytics_events"))).all()
    assert payloads == [{"finish_reason": finish_reason}]


async def test_what_nobody_saw_anything_of_is_no_event(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    script(application, ReplyAnimation("thinking"), Unavailable())
    await respond(application, owner, persona_id)
    async with database.superuser() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM analytics_events")) == 0


async def test_what_was_said_is_kept_nowhere(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    await application.add_document(owner, persona_id, b"The fare from Kigali to Huye is 3,200 francs.")
    question = "What is the fare from Kigali to Huye, asked Umuhoza?"
    await respond(application, owner, persona_id, user_message=question)
    async with database.superuser() as connection:
        for table in ("analytics_events", "conversations", "messages", "turns", "jobs"):
            found = f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%Umuhoza%'"  # noqa: S608  # named above
            assert await connection.scalar(text(found)) == 0, table
