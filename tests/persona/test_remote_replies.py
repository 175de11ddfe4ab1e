"""Replies over HTTP are those of the service that makes them, event by event, whatever happens between the two."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

import pytest
import uvicorn
from fastapi import FastAPI

from bwenge.kit.errors import BwengeError, Unavailable
from bwenge.kit.http.dependencies import provide
from bwenge.kit.http.problems import install_problem_handlers
from bwenge.kit.http.service_calls import ServiceCalls
from bwenge.kit.ids import new_id
from bwenge.kit.signing import Signer
from bwenge.persona import internal_routes
from bwenge.persona.contract import (
    Citation,
    HistoryMessage,
    Reply,
    ReplyAnimation,
    ReplyDelta,
    ReplyEvent,
    ReplyRequest,
    Usage,
)
from bwenge.persona.errors import ModelUnavailable, PersonaNotFound
from bwenge.persona.remote import PATIENCE_SECONDS, RemoteReplies
from bwenge.persona.replies import PersonaReplies
from tests.chat.scripted import Gate, ScriptedReplies, Step
from tests.support.platform import free_port
from tests.support.web_server import ServerInTest

REQUEST = ReplyRequest(
    org_id=new_id(),
    persona_id=new_id(),
    question="Ni iki? \u2028 «Quoi»\n\n",
    history=(HistoryMessage("user", "Before"), HistoryMessage("assistant", "After [1]")),
)
CITATION = Citation(
    marker=1,
    source_id=UUID("01900000-0000-7000-8000-000000000001"),
    chunk_id=UUID("01900000-0000-7000-8000-000000000002"),
    title="Ibimera",
    text="First line\nsecond \u2028 line\r\n\x85 end",
    relevance_score=0.25,
    locator={"page": 3, "char_start": 0},
    source_url="/knowledge/x/file?expires=1&signature=a_b-c",
)
EVENTS: tuple[ReplyEvent, ...] = (
    ReplyAnimation("thinking"),
    ReplyDelta("Imyenda\u2028 \U0001f600\n", (CITATION,)),
    ReplyDelta(" [1]"),
    Reply(
        text="Imyenda\u2028 \U0001f600\n [1]",
        citations=(CITATION,),
        grounded=True,
        model="extractive",
        language="rw",
        animation_hint="explaining",
        finish_reason="length",
        usage=Usage(3, 4),
        actions=({"type": "open_source", "payload": {"marker": 1, "url": "/x"}},),
    ),
)
KEY = b"k" * 32


class PersonaService:
    """The service of the other process, here on a real port."""

    def __init__(self, *script: Step) -> None:
        self.replies = ScriptedReplies(script)
        self.port = free_port()
        app = FastAPI()
        install_problem_handlers(app)
        provide(app.state, ServiceCalls(Signer(KEY)))
        app.state.provided[PersonaReplies] = self.replies
        app.include_router(internal_routes.router)
        config = uvicorn.Config(app, port=self.port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = ServerInTest(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110  # uvicorn has a flag and no event
            await asyncio.sleep(0.01)

    def break_connections(self) -> None:
        """As the kernel does for a process that was killed."""
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    async def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        if self._serving is not None:
            await self._serving

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["PersonaService"]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


@contextlib.asynccontextmanager
async def replies_of(port: int, *, key: bytes = KEY, patience_seconds: float = 10.0) -> AsyncIterator[RemoteReplies]:
    calls = ServiceCalls(Signer(key))
    replies = RemoteReplies(f"http://127.0.0.1:{port}", calls, patience_seconds=patience_seconds)
    try:
        yield replies
    finally:
        await replies.close()


async def heard(replies: RemoteReplies) -> tuple[list[ReplyEvent], BwengeError | None]:
    """What came, and how it broke off if it did."""
    events: list[ReplyEvent] = []
    try:
        async with aclosing(replies.stream(REQUEST)) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401  # what came before a failure is kept
    except BwengeError as error:
        return events, error
    return events, None


async def test_the_events_and_the_request_cross_unchanged() -> None:
    async with PersonaService(*EVENTS).running() as service, replies_of(service.port) as replies:
        assert await heard(replies) == (list(EVENTS), None)
    assert service.replies.requests == [REQUEST]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (PersonaNotFound(), PersonaNotFound),
        (ModelUnavailable(retry_after=7), ModelUnavailable),
        (Unavailable("The database is away", retry_after=2), Unavailable),
        (RuntimeError("secret of the service"), BwengeError),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
async def test_a_failure_is_the_same_failure_here(raised: Exception, expected: type[BwengeError], after: int) -> None:
    async with (
        PersonaService(*EVENTS[:after], raised).running() as service,
        replies_of(service.port) as replies,
    ):
        events, error = await heard(replies)
    assert events == list(EVENTS[:after])
    assert type(error) is expected
    assert "secret" not in str(error)
    if isinstance(raised, BwengeError):
        assert error is not None
        assert (error.detail, error.retry_after) == (raised.detail, raised.retry_after)
    assert len(service.replies.requests) == 1


async def test_a_question_waits_for_a_service_that_is_being_restarted() -> None:
    service = PersonaService(*EVENTS)
    async with replies_of(service.port) as replies:
        waiting = asyncio.create_task(heard(replies))
        await asyncio.sleep(0)
        async with service.running():
            assert await waiting == (list(EVENTS), None)


async def test_a_service_that_stays_away_is_told_as_a_model_that_does_not_answer() -> None:
    async with replies_of(free_port(), patience_seconds=0.3) as replies:
        events, error = await heard(replies)
    assert (events, type(error)) == ([], ModelUnavailable)
    assert error is not None
    assert error.retry_after


async def test_a_reply_that_breaks_off_is_told_and_never_begun_again() -> None:
    gate = Gate()
    async with PersonaService(*EVENTS[:2], gate, *EVENTS[2:]).running() as service, replies_of(service.port) as replies:
        listening = asyncio.create_task(heard(replies))
        await gate.wait_until_reached()
        service.break_connections()
        events, error = await listening
    assert events == list(EVENTS[:2])
    assert type(error) is ModelUnavailable
    assert len(service.replies.requests) == 1


async def test_who_stops_listening_stops_the_reply() -> None:
    gate = Gate()
    async with PersonaService(*EVENTS[:1], gate).running() as service, replies_of(service.port) as replies:
        async with aclosing(replies.stream(REQUEST)) as stream:
            assert await anext(stream) == EVENTS[0]
            await gate.wait_until_reached()
        async with asyncio.timeout(10):
            await service.replies.closed.wait()


async def test_a_caller_with_another_secret_hears_nothing_and_does_not_ask_twice() -> None:
    began = time.monotonic()
    async with PersonaService(*EVENTS).running() as service, replies_of(service.port, key=b"x" * 32) as replies:
        events, error = await heard(replies)
    assert (events, type(error)) == ([], ModelUnavailable)
    assert service.replies.requests == []
    assert time.monotonic() - began < PATIENCE_SECONDS


async def test_each_question_is_a_call_of_its_own() -> None:
    async with PersonaService(*EVENTS).running() as service, replies_of(service.port) as replies:
        results = await asyncio.gather(*(heard(replies) for _ in range(20)))
    assert results == [(list(EVENTS), None)] * 20
