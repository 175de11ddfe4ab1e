"""Stateless answers: one question in, one reply out, and a fact of it left for analytics."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from bwenge.analytics.contract import EventRecorder, NewEvent
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal
from bwenge.kit.ids import new_id
from bwenge.payments.contract import QuotaKind, Quotas
from bwenge.persona.contract import Personas, Replies, Reply, ReplyDelta, ReplyEvent, ReplyRequest
from bwenge.persona.errors import ModelUnavailable


class AnswerService:
    def __init__(
        self, database: Database, replies: Replies, *, personas: Personas, events: EventRecorder, quotas: Quotas
    ) -> None:
        self._database = database
        self._personas = personas
        self._replies = replies
        self._events = events
        self._quotas = quotas
        self._concluding: set[asyncio.Task[None]] = set()

    async def stream(self, principal: Principal, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        """The reply as it comes, for one message of quota, which is given back where it fails without a word.

        Whatever was shown leaves its event: before the last item is given out, or when the reader goes before that.

        Raises:
            PersonaNotFound: The persona is unknown, inactive, or kept from the principal.
            QuotaExhausted: the model was not asked.
        """
        act = _Act(new_id(), principal, request)
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._personas.card(session, principal, request.persona_id)
            await self._quotas.reserve(
                session, principal.org_id, kind=QuotaKind.MESSAGES, amount=1, act_id=act.answer_id
            )
        is_concluded = False
        try:
            async with aclosing(self._replies.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Reply):
                        is_concluded = True
                        await self._conclude(act, _facts(event), is_owed=act.is_owed(event))
                    elif isinstance(event, ReplyDelta):
                        act.has_text = True
                    yield event
        except Exception:
            if not is_concluded:
                is_concluded = True
                facts = {"finish_reason": "error"} if act.has_text else None
                await self._conclude(act, facts, is_owed=act.was_seen)
            raise
        finally:
            if not is_concluded:
                facts = {"finish_reason": "cancelled"} if act.has_text else None
                await self._conclude(act, facts, is_owed=act.has_text)

    async def answer(self, principal: Principal, request: ReplyRequest) -> Reply:
        """The whole reply.

        Raises:
            ModelUnavailable: the model's stream broke; nothing was shown, so the question may be asked again.
            QuotaExhausted: the model was not asked.
        """
        async with aclosing(self.stream(principal, replace(request, is_streamed=False))) as events:
            async for event in events:
                if isinstance(event, Reply):
                    if event.finish_reason == "error":
                        raise ModelUnavailable(retry_after=1)
                    return event
        raise RuntimeError("the reply stream ended without a reply")

    async def _conclude(self, act: "_Act", facts: dict[str, Any] | None, *, is_owed: bool) -> None:
        """In a task of its own: a reader who goes cancels the request, and not what is to be remembered of it."""
        concluding = asyncio.create_task(self._write(act, facts, is_owed=is_owed))
        self._concluding.add(concluding)
        concluding.add_done_callback(self._concluding.discard)
        await asyncio.shield(concluding)

    async def _write(self, act: "_Act", facts: dict[str, Any] | None, *, is_owed: bool) -> None:
        org_id = act.principal.org_id
        async with self._database.unit_of_work(org_id) as session:
            if facts is not None:
                await self._events.record(session, act.event(facts))
            conclude = self._quotas.settle if is_owed else self._quotas.release
            await conclude(session, org_id, kind=QuotaKind.MESSAGES, act_id=act.answer_id)


@dataclass(slots=True)
class _Act:
    """One question being answered; `has_text` once the model has said something."""

    answer_id: UUID
    principal: Principal
    request: ReplyRequest
    has_text: bool = False

    @property
    def was_seen(self) -> bool:
        return self.has_text and self.request.is_streamed

    def is_owed(self, reply: Reply) -> bool:
        return reply.finish_reason != "error" or self.was_seen

    def event(self, facts: dict[str, Any]) -> NewEvent:
        return NewEvent(
            org_id=self.principal.org_id,
            event_type="answer_given",
            user_id=self.principal.user_id,
            persona_id=self.request.persona_id,
            payload=facts,
        )


def _facts(reply: Reply) -> dict[str, Any]:
    return {
        "grounded": reply.grounded,
        "model": reply.model,
        "language": reply.language,
        "citations": len(reply.citations),
        "finish_reason": reply.finish_reason,
    }
