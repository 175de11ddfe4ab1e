"""Stateless answers: one question in, one reply out, and a fact of it left for analytics."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from bwenge.analytics.contract import EventRecorder, NewEvent
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal
from bwenge.persona.contract import Replies, Reply, ReplyDelta, ReplyEvent, ReplyRequest
from bwenge.persona.errors import ModelUnavailable


class AnswerService:
    def __init__(self, database: Database, replies: Replies, *, events: EventRecorder) -> None:
        self._database = database
        self._replies = replies
        self._events = events
        self._recording: set[asyncio.Task[None]] = set()

    async def stream(self, principal: Principal, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        """The reply as it comes.

        Whatever was shown leaves its event: before the last item is given out, or when the reader goes before that.
        """
        shown: dict[str, Any] | None = None
        try:
            async with aclosing(self._replies.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Reply):
                        shown = None
                        await self._record(principal, request, _facts(event))
                    elif isinstance(event, ReplyDelta) and shown is None:
                        shown = {"finish_reason": "cancelled"}
                    yield event
        except Exception:
            if shown is not None:
                shown["finish_reason"] = "error"
            raise
        finally:
            if shown is not None:
                await self._record(principal, request, shown)

    async def answer(self, principal: Principal, request: ReplyRequest) -> Reply:
        """The whole reply.

        Raises:
            ModelUnavailable: the model's stream broke; nothing was shown, so the question may be asked again.
        """
        async with aclosing(self.stream(principal, replace(request, is_streamed=False))) as events:
            async for event in events:
                if isinstance(event, Reply):
                    if event.finish_reason == "error":
                        raise ModelUnavailable(retry_after=1)
                    return event
        raise RuntimeError("the reply stream ended without a reply")

    async def _record(self, principal: Principal, request: ReplyRequest, facts: dict[str, Any]) -> None:
        """In a task of its own: a reader who goes cancels the request, and not what is to be remembered of it."""
        event = NewEvent(
            org_id=principal.org_id,
            event_type="answer_given",
            user_id=principal.user_id,
            persona_id=request.persona_id,
            payload=facts,
        )
        recording = asyncio.create_task(self._write(event))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)
        await asyncio.shield(recording)

    async def _write(self, event: NewEvent) -> None:
        async with self._database.unit_of_work(event.org_id) as session:
            await self._events.record(session, event)


def _facts(reply: Reply) -> dict[str, Any]:
    return {
        "grounded": reply.grounded,
        "model": reply.model,
        "language": reply.language,
        "citations": len(reply.citations),
        "finish_reason": reply.finish_reason,
    }
