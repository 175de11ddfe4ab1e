"""A turn's rows. Each method but `begin` is one transaction, and none spans a network call."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.analytics.contract import EventRecorder, NewEvent
from bwenge.chat.models import Conversation, Message, Turn
from bwenge.chat.protocol import ErrorFacts, FinishReason
from bwenge.chat.repository import ChatRepository, LeaseRepository, lease_end
from bwenge.chat.retelling import message_body
from bwenge.chat.schemas import MessageBody
from bwenge.chat.settings import ChatSettings
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import Principal
from bwenge.kit.ids import new_id
from bwenge.knowledge.contract import CitedSources
from bwenge.payments.contract import QuotaKind, Quotas
from bwenge.persona.contract import Citation, HistoryMessage, Reply, Usage

_REAPED_AT_ONCE: Final = 100
LOST_FRAMES: Final = 2
"""Numbered frames that tell of a lost turn: the error and the end."""


class LeaseLost(Exception):
    """The turn is no longer this process's: its lease ran out, or its session was deleted."""


@dataclass(frozen=True, slots=True)
class Question:
    """`client_msg_id` is the client's own name for it: sent twice, it is handled once."""

    session_id: UUID
    persona_id: UUID
    content: str
    client_msg_id: UUID


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """A stored question whose answer is due. Frames may be numbered from `first_seq`, `reserved_seqs` of them."""

    turn_id: UUID
    org_id: UUID
    user_id: UUID
    persona_id: UUID
    session_id: UUID
    question: MessageBody
    history: tuple[HistoryMessage, ...]
    first_seq: int
    reserved_seqs: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. `text` is what was streamed; `reply` is there when the persona finished its answer.

    Without a reply, `citations` are those whose markers stand in the text.
    """

    state: Literal["finished", "cancelled", "failed"]
    finish_reason: FinishReason
    text: str
    citations: tuple[Citation, ...] = ()
    animation_hint: str | None = None
    reply: Reply | None = None
    error: ErrorFacts | None = None

    @property
    def usage(self) -> dict[str, int]:
        return asdict(self.reply.usage if self.reply is not None else Usage())


@dataclass(frozen=True, slots=True)
class LostTurn:
    """A turn that the reaper ended, and the number of the first frame that tells of it."""

    turn_id: UUID
    session_id: UUID
    first_seq: int


class TurnRecords:
    """Writes what happens to the turns that this process owns, and ends those whose owner died."""

    def __init__(
        self,
        database: Database,
        *,
        events: EventRecorder,
        links: CitedSources,
        quotas: Quotas,
        owner: str,
        settings: ChatSettings,
    ) -> None:
        self._owner = owner
        self._database = database
        self._events = events
        self._links = links
        self._quotas = quotas
        self._settings = settings

    async def begin(
        self, session: AsyncSession, principal: Principal, *, question: Question, conversation: Conversation
    ) -> StartedTurn:
        """Store a question and its turn, with a block of frame numbers, in the transaction that locked the row.

        Raises:
            QuotaExhausted: The plan has no message left for it.
        """
        repository = ChatRepository(session, principal.org_id)
        history = await repository.latest_messages(conversation.id, limit=self._settings.history_messages)
        message = _question(principal, question)
        await repository.add(message)
        turn = Turn(
            id=new_id(),
            org_id=principal.org_id,
            conversation_id=conversation.id,
            question_id=message.id,
            owner=self._owner,
            lease_until=lease_end(self._settings.lease_seconds),
            first_seq=conversation.last_seq + 1,
            reserved_seqs=self._settings.block_size,
        )
        await repository.add(turn)
        conversation.message_count += 1
        conversation.last_seq += turn.reserved_seqs
        await self._events.record(session, _sent_event(principal, question, turn))
        body = await message_body(session, message, links=self._links)
        await self._quotas.reserve(session, principal.org_id, kind=QuotaKind.MESSAGES, amount=1, act_id=turn.id)
        return StartedTurn(
            turn_id=turn.id,
            org_id=principal.org_id,
            user_id=principal.user_id,
            persona_id=question.persona_id,
            session_id=conversation.id,
            question=body,
            history=tuple(_as_history(earlier) for earlier in history),
            first_seq=turn.first_seq,
            reserved_seqs=turn.reserved_seqs,
        )

    async def reserve(self, turn: StartedTurn) -> int:
        """Take another block of frame numbers, which follows the turn's last one; returns its size.

        Raises:
            LeaseLost: Then nothing may be numbered any more.
        """
        size = self._settings.block_size
        async with self._database.unit_of_work(turn.org_id) as session:
            row, conversation = await self._lock(session, turn)
            if row.state != "running":
                raise LeaseLost
            conversation.last_seq += size
            row.reserved_seqs += size
        return size

    async def finish(
        self, turn: StartedTurn, outcome: Outcome, *, answer_id: UUID, last_seq: int
    ) -> MessageBody | None:
        """Store the answer and close the turn; returns the stored message, if there is any text.

        Doing it again after a commit whose confirmation was lost changes nothing.

        Raises:
            LeaseLost: Nothing was stored.
        """
        async with self._database.unit_of_work(turn.org_id) as session:
            row, conversation = await self._lock(session, turn)
            if row.state == "running":
                answer = await self._close(session, turn, outcome, row=row, answer_id=answer_id)
                conversation.last_seq = last_seq
                conversation.message_count += answer is not None
            elif row.state == outcome.state:
                answer = await session.get(Message, answer_id)
            else:
                raise LeaseLost
            return None if answer is None else await message_body(session, answer, links=self._links)

    async def abandon(self, session: AsyncSession, turn: Turn) -> None:
        """Conclude a turn that is being erased while it runs: nobody will tell how it ended."""
        await self._quotas.settle(session, turn.org_id, kind=QuotaKind.MESSAGES, act_id=turn.id)

    async def renew(self, turn_ids: Collection[UUID]) -> set[UUID]:
        """Prolong the leases of these turns; returns those that are still this process's."""
        async with self._database.unit_of_work(PLATFORM) as session:
            leases = LeaseRepository(session)
            return await leases.renew(turn_ids, owner=self._owner, seconds=self._settings.lease_seconds)

    async def end_expired(self) -> list[LostTurn]:
        """End the turns whose owner is silent, so that their sessions are usable again."""
        async with self._database.unit_of_work(PLATFORM) as session:
            expired = await LeaseRepository(session).expired(limit=_REAPED_AT_ONCE)
        ended = [await self._end_expired(turn_id, session_id) for turn_id, session_id in expired]
        return [lost for lost in ended if lost is not None]

    async def _end_expired(self, turn_id: UUID, session_id: UUID) -> LostTurn | None:
        async with self._database.unit_of_work(PLATFORM) as session:
            locked = await LeaseRepository(session).lock_expired(turn_id, session_id)
            if locked is None:
                return None
            turn, conversation = locked
            _end(turn, state="lost", finish_reason="error")
            first_seq = conversation.last_seq + 1
            conversation.last_seq += LOST_FRAMES
            # Whatever it had said is lost too.
            await self._quotas.release(session, turn.org_id, kind=QuotaKind.MESSAGES, act_id=turn_id)
            return LostTurn(turn_id=turn_id, session_id=session_id, first_seq=first_seq)

    async def _lock(self, session: AsyncSession, turn: StartedTurn) -> tuple[Turn, Conversation]:
        repository = ChatRepository(session, turn.org_id)
        conversation = await repository.lock_conversation(turn.session_id)
        row = await repository.lock_turn(turn.turn_id)
        if conversation is None or row is None or row.owner != self._owner:
            raise LeaseLost
        return row, conversation

    async def _close(
        self, session: AsyncSession, turn: StartedTurn, outcome: Outcome, *, row: Turn, answer_id: UUID
    ) -> Message | None:
        answer = _answer(turn, outcome, answer_id=answer_id) if outcome.text else None
        if answer is not None:
            await ChatRepository(session, turn.org_id).add(answer)
            row.answer_id = answer_id
        row.usage = outcome.usage
        _end(row, state=outcome.state, finish_reason=outcome.finish_reason)
        await self._events.record(session, _finished_event(turn, outcome))
        # Paid for is what was said, however it ended.
        conclude = self._quotas.settle if outcome.text else self._quotas.release
        await conclude(session, turn.org_id, kind=QuotaKind.MESSAGES, act_id=turn.turn_id)
        return answer


def _question(principal: Principal, question: Question) -> Message:
    return Message(
        id=new_id(),
        org_id=principal.org_id,
        conversation_id=question.session_id,
        sender="user",
        content=question.content,
        details={},
        client_msg_id=question.client_msg_id,
    )


def _as_history(message: Message) -> HistoryMessage:
    return HistoryMessage(role="user" if message.sender == "user" else "assistant", content=message.content)


def _end(row: Turn, *, state: str, finish_reason: str) -> None:
    row.state = state
    row.finish_reason = finish_reason
    row.finished_at = func.clock_timestamp()


def _answer(turn: StartedTurn, outcome: Outcome, *, answer_id: UUID) -> Message:
    return Message(
        id=answer_id,
        org_id=turn.org_id,
        conversation_id=turn.session_id,
        sender="assistant",
        content=outcome.text,
        details=_details(outcome),
    )


def _details(outcome: Outcome) -> dict[str, Any]:
    """The stored form of the protocol's `metadata`; what they cite is looked up whenever they are told."""
    reply = outcome.reply
    citations = [_stored_citation(citation) for citation in (outcome.citations if reply is None else reply.citations)]
    if reply is None:
        return {
            "citations": citations,
            "animation_hint": outcome.animation_hint,
            # Whether the rest would have been supported is not known.
            "grounded": True if citations else None,
            "finish_reason": outcome.finish_reason,
        }
    return {
        "citations": citations,
        "animation_hint": reply.animation_hint,
        "actions": [dict(action) for action in reply.actions],
        "grounded": reply.grounded,
        "model": reply.model,
        "finish_reason": outcome.finish_reason,
    }


def _stored_citation(citation: Citation) -> dict[str, Any]:
    return {
        "marker": citation.marker,
        "source_id": str(citation.source_id),
        "chunk_id": str(citation.chunk_id),
        "title": citation.title,
        "text": citation.text,
        "relevance_score": citation.relevance_score,
        "locator": dict(citation.locator),
    }


def _sent_event(principal: Principal, question: Question, turn: Turn) -> NewEvent:
    return NewEvent(
        org_id=principal.org_id,
        event_type="message_sent",
        user_id=principal.user_id,
        persona_id=question.persona_id,
        session_id=question.session_id,
        payload={
            "message_id": str(turn.question_id),
            "turn_id": str(turn.id),
            "characters": len(question.content),
        },
    )


def _finished_event(turn: StartedTurn, outcome: Outcome) -> NewEvent:
    reply = outcome.reply
    return NewEvent(
        org_id=turn.org_id,
        event_type="turn_finished",
        user_id=turn.user_id,
        persona_id=turn.persona_id,
        session_id=turn.session_id,
        payload={
            "turn_id": str(turn.turn_id),
            "finish_reason": outcome.finish_reason,
            "error_code": None if outcome.error is None else outcome.error.code,
            "grounded": None if reply is None else reply.grounded,
            "model": None if reply is None else reply.model,
            **outcome.usage,
        },
    )
