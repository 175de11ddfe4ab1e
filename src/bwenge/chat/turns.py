"""Turns as they run. A turn belongs to its session: sockets come and go, its answer is stored all the same."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from enum import Enum, auto
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from bwenge.chat.errors import AnswerMissing, TurnLost
from bwenge.chat.hub import SessionHub
from bwenge.chat.protocol import (
    MAX_ANSWER_BYTES,
    MAX_DELTA_CHARACTERS,
    Animation,
    CloseCode,
    Delta,
    ErrorFacts,
    LiveMessage,
    NumberedFrame,
    ServerFrame,
    TurnError,
    TurnFinished,
    TurnStarted,
    Typing,
    error_facts,
    known_code,
)
from bwenge.chat.schemas import MessageBody
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import LeaseLost, Outcome, StartedTurn, TurnRecords
from bwenge.kit.db import DatabaseUnavailable
from bwenge.kit.errors import BwengeError
from bwenge.kit.ids import new_id
from bwenge.kit.storable import storable
from bwenge.persona.contract import Citation, Replies, Reply, ReplyAnimation, ReplyDelta, ReplyRequest

_log = structlog.get_logger(__name__)

T = TypeVar("T")
F = TypeVar("F", bound=NumberedFrame)

_CLOSING_FRAMES: Final = 3
"""Numbered frames that may end a turn (error, message, end); their numbers are always at hand."""
_STORE_AGAIN_AFTER: Final = (0.5, 2.0)
_SETTLE_SECONDS: Final = 5.0
"""For storing what the turns have said that were stopped by a restart."""


_BROKEN_OFF: Final = "The answer broke off"


class StopReason(Enum):
    CANCELLED = auto()
    RESTART = auto()
    NOT_OURS = auto()
    """The lease was lost or the session deleted: nothing more may be told or stored."""


class RunningTurn:
    """Streams one reply to the session's sockets, and stores it."""

    def __init__(
        self, turn: StartedTurn, *, replies: Replies, records: TurnRecords, hub: SessionHub, settings: ChatSettings
    ) -> None:
        self.turn = turn
        self._replies = replies
        self._records = records
        self._hub = hub
        self._settings = settings
        self._next_seq = turn.first_seq
        self._reserved_end = turn.first_seq + turn.reserved_seqs
        self._said: list[str] = []
        self._said_bytes = 0
        self._cited: list[Citation] = []
        self._is_too_long = False
        self._animation: str | None = None
        self._stop_reason: StopReason | None = None
        self._deadline: asyncio.Timeout | None = None

    @property
    def last_seq(self) -> int:
        """The highest number given to a frame so far."""
        return self._next_seq - 1

    def stop(self, reason: StopReason) -> None:
        """End the reply where it is. Without effect on a turn that is being stored already."""
        if self._stop_reason is None:
            self._stop_reason = reason
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        log = _log.bind(turn_id=str(self.turn.turn_id), session_id=str(self.turn.session_id))
        try:
            self._open()
            outcome = await self._reply()
            await self._settle(outcome)
        except LeaseLost:
            log.warning("turn_not_ours")
        except Exception:
            # Its lease runs out, and the reaper tells the session.
            log.exception("turn_not_stored")
        else:
            log.info("turn_finished", finish_reason=outcome.finish_reason, frames=self._next_seq - self.turn.first_seq)

    def _open(self) -> None:
        turn = self.turn
        self._publish(LiveMessage, message=turn.question)
        self._hub.publish(Typing(session_id=turn.session_id, is_typing=True))
        self._publish(TurnStarted, turn_id=turn.turn_id, message_id=turn.question.message_id)

    async def _reply(self) -> Outcome:
        seconds = self._settings.turn_seconds if self._stop_reason is None else 0
        self._deadline = deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return self._completed(await self._consume())
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a persona raises, the turn ends and says so
            if deadline.expired():
                return self._stopped()
            return self._failed(_facts_of(error))
        finally:
            self._deadline = None

    async def _consume(self) -> Reply | None:
        """Pass the reply on as it comes; None if it was cut for its length or had no end."""
        turn = self.turn
        request = ReplyRequest(
            org_id=turn.org_id, persona_id=turn.persona_id, question=turn.question.content, history=turn.history
        )
        reply = None
        async with aclosing(self._replies.stream(request)) as events:
            async for event in events:
                match event:
                    case ReplyDelta(text=text, citations=citations):
                        self._cited.extend(citations)
                        await self._say(storable(text))
                    case ReplyAnimation(animation=animation):
                        self._animation = animation
                        await self._make_room()
                        self._publish(Animation, turn_id=turn.turn_id, animation=animation)
                    case Reply():
                        reply = event
                if self._is_too_long:
                    return None
        return reply

    async def _say(self, text: str) -> None:
        for piece in _pieces(text):
            self._said_bytes += len(json.dumps(piece, ensure_ascii=False).encode())
            if self._said_bytes > MAX_ANSWER_BYTES:
                self._is_too_long = True
                return
            await self._make_room()
            self._said.append(piece)
            self._publish(Delta, turn_id=self.turn.turn_id, text=piece)
            # A reply that never waits must not fill the queues of sockets whose writers get no time to empty them.
            await asyncio.sleep(0)

    def _completed(self, reply: Reply | None) -> Outcome:
        if self._is_too_long:
            return Outcome(state="finished", finish_reason="length", **self._so_far())
        if reply is None:
            _log.error("reply_without_end", turn_id=str(self.turn.turn_id))
            return self._failed(error_facts(BwengeError()))
        if reply.finish_reason == "error":
            code = known_code(reply.error_code)
            return self._failed(ErrorFacts(code=code, message=_BROKEN_OFF, retry_after=None), reply=reply)
        if not self._said:
            return self._failed(error_facts(AnswerMissing()))
        return Outcome(state="finished", finish_reason=reply.finish_reason, reply=reply, **self._so_far())

    def _stopped(self) -> Outcome:
        match self._stop_reason:
            case StopReason.CANCELLED:
                return Outcome(state="cancelled", finish_reason="cancelled", **self._so_far())
            case StopReason.RESTART:
                return self._failed(error_facts(TurnLost()))
            case StopReason.NOT_OURS:
                raise LeaseLost
            case None:
                return self._failed(error_facts(AnswerMissing("The answer took too long")))

    def _failed(self, facts: ErrorFacts, *, reply: Reply | None = None) -> Outcome:
        return Outcome(state="failed", finish_reason="error", error=facts, reply=reply, **self._so_far())

    def _so_far(self) -> dict[str, Any]:
        text = "".join(self._said)
        # What was cut off may have cited more.
        cited = [citation for citation in self._cited if f"[{citation.marker}]" in text]
        return {
            "text": text,
            "citations": tuple(sorted(cited, key=lambda citation: citation.marker)),
            "animation_hint": self._animation,
        }

    async def _settle(self, outcome: Outcome) -> None:
        """Store how the turn ended, then tell it: what is told is stored."""
        turn_id, session_id = self.turn.turn_id, self.turn.session_id
        closing: list[ServerFrame] = []
        if outcome.error is not None:
            closing.append(self._numbered(TurnError, turn_id=turn_id, **outcome.error.fields()))
        message_seq = self._take() if outcome.text else 0
        finished = self._numbered(
            TurnFinished, turn_id=turn_id, finish_reason=outcome.finish_reason, usage=outcome.usage
        )
        answer = await self._store(outcome, last_seq=finished.seq)
        if answer is not None:
            closing.append(LiveMessage(session_id=session_id, seq=message_seq, message=answer))
        closing += [Typing(session_id=session_id, is_typing=False), finished]
        for frame in closing:
            self._hub.publish(frame)

    async def _store(self, outcome: Outcome, *, last_seq: int) -> MessageBody | None:
        """A database that restarts in this moment loses no answer."""
        answer_id = new_id()
        for seconds in _STORE_AGAIN_AFTER:
            try:
                return await self._records.finish(self.turn, outcome, answer_id=answer_id, last_seq=last_seq)
            except (SQLAlchemyError, DatabaseUnavailable):
                _log.warning("turn_stored_again", turn_id=str(self.turn.turn_id), exc_info=True)
                await asyncio.sleep(seconds)
        return await self._records.finish(self.turn, outcome, answer_id=answer_id, last_seq=last_seq)

    async def _make_room(self) -> None:
        """See that a frame can be numbered and the turn can still be closed after it."""
        if self._reserved_end - self._next_seq <= _CLOSING_FRAMES:
            self._reserved_end += await self._records.reserve(self.turn)

    def _publish(self, kind: type[NumberedFrame], **fields: Any) -> None:
        self._hub.publish(self._numbered(kind, **fields))

    def _numbered(self, kind: type[F], **fields: Any) -> F:
        return kind(session_id=self.turn.session_id, seq=self._take(), **fields)

    def _take(self) -> int:
        seq = self._next_seq
        if seq >= self._reserved_end:
            raise RuntimeError("a frame would have a number that is not reserved")
        self._next_seq += 1
        return seq


class TurnRunner:
    """The turns that run in this process, at most one in a session."""

    def __init__(self, *, replies: Replies, records: TurnRecords, hub: SessionHub, settings: ChatSettings) -> None:
        self.is_draining = False
        self._replies = replies
        self._records = records
        self._hub = hub
        self._settings = settings
        self._running: dict[UUID, tuple[RunningTurn, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, turn: StartedTurn) -> None:
        running = RunningTurn(
            turn, replies=self._replies, records=self._records, hub=self._hub, settings=self._settings
        )
        before = self._running.get(turn.session_id)
        task = self.own(_run_after(None if before is None else before[1], running))
        self._running[turn.session_id] = (running, task)
        task.add_done_callback(lambda _: self._ended(running))

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work to its end, whatever becomes of who asked for it; `drain` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._release)
        return task

    def of_session(self, session_id: UUID) -> RunningTurn | None:
        running = self._running.get(session_id)
        return None if running is None else running[0]

    def stop(self, session_id: UUID, reason: StopReason, *, turn_id: UUID | None = None) -> None:
        """Stop the session's turn, if one runs here and, where `turn_id` is given, if it is that one."""
        running = self.of_session(session_id)
        if running is not None and turn_id in {None, running.turn.turn_id}:
            running.stop(reason)

    def turns(self) -> list[StartedTurn]:
        return [running.turn for running, _ in self._running.values()]

    async def drain(self) -> None:
        """Begin no turns, let the running ones finish, and close each session's sockets when its turn is told.

        A turn that goes on for longer than is allowed ends with what it has said.
        """
        self.is_draining = True
        for session_id in self._hub.session_ids():
            if session_id not in self._running:
                self._hub.close_session(session_id, CloseCode.RESTART)
        if not await self._wait_for_all(self._settings.drain_seconds):
            for running, _ in self._running.values():
                running.stop(StopReason.RESTART)
            await self._wait_for_all(_SETTLE_SECONDS)
        for session_id in self._hub.session_ids():
            self._hub.close_session(session_id, CloseCode.RESTART)

    async def _wait_for_all(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        except TimeoutError:
            return False
        return True

    def _ended(self, running: RunningTurn) -> None:
        session_id = running.turn.session_id
        if self.of_session(session_id) is running:
            del self._running[session_id]
            if self.is_draining:
                self._hub.close_session(session_id, CloseCode.RESTART)

    def _release(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever asked may be gone; the error is theirs, and is not reported a second time.
            task.exception()


async def _run_after(before: asyncio.Task[None] | None, running: RunningTurn) -> None:
    """A turn's first frame follows the last one of the turn before."""
    if before is not None:
        await asyncio.wait({before})
    await running.run()


def _facts_of(error: Exception) -> ErrorFacts:
    if isinstance(error, BwengeError):
        return error_facts(error)
    _log.error("reply_failed", exc_info=error)
    return error_facts(BwengeError())


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), MAX_DELTA_CHARACTERS):
        yield text[start : start + MAX_DELTA_CHARACTERS]
