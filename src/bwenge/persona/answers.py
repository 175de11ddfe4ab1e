"""Stateless answers: one question in, one reply out, and a fact of it left for analytics."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from bwenge.analytics.contract import EventRecorder, NewEvent
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal
from bwenge.persona.contract import Replies, Reply, ReplyEvent, ReplyRequest
from bwenge.persona.errors import ModelUnavailable


class AnswerService:
    def __init__(self, database: Database, replies: Replies, *, events: EventRecorder) -> None:
        self._database = database
        self._replies = replies
        self._events = events

    async def stream(self, principal: Principal, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        """The reply as it comes; the event is written before the last item is given out."""
        async with aclosing(self._replies.stream(request)) as events:
            async for event in events:
                if isinstance(event, Reply):
                    await self._record(principal, request, event)
                yield event

    async def answer(self, principal: Principal, request: ReplyRequest) -> Reply:
        """The whole reply.

        Raises:
            ModelUnavailable: the model's stream broke; nothing was shown, so the question may be asked again.
        """
        async with aclosing(self.stream(principal, request)) as events:
            async for event in events:
                if isinstance(event, Reply):
                    if event.finish_reason == "error":
                        raise ModelUnavailable(retry_after=1)
                    return event
        raise RuntimeError("the reply stream ended without a reply")

    async def _record(self, principal: Principal, request: ReplyRequest, reply: Reply) -> None:
        event = NewEvent(
            org_id=principal.org_id,
            event_type="answer_given",
            user_id=principal.user_id,
            persona_id=request.persona_id,
            payload={
                "grounded": reply.grounded,
                "model": reply.model,
                "language": reply.language,
                "citations": len(reply.citations),
                "finish_reason": reply.finish_reason,
            },
        )
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._events.record(session, event)
