"""Chat's use cases around a live session: opening it, asking, cancelling, and deleting what was said."""

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import Members
from bwenge.chat.errors import (
    MemberDeactivated,
    PersonaUnavailable,
    Restarting,
    SessionDeleted,
    SessionNotFound,
    TurnInProgress,
)
from bwenge.chat.hub import Outlet, QueueLimits, SessionHub
from bwenge.chat.models import Conversation, Message, Turn
from bwenge.chat.protocol import CloseCode, Detail, HistoryMessage, SessionInfo
from bwenge.chat.rate import QuestionRate
from bwenge.chat.repository import ChatRepository
from bwenge.chat.retelling import message_bodies
from bwenge.chat.schemas import MessageBody
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import Question, TurnRecords
from bwenge.chat.turns import StopReason, TurnRunner
from bwenge.kit.db import Database
from bwenge.kit.errors import NotFound, Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.knowledge.contract import CitedSources
from bwenge.persona.contract import Personas

_TITLE_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class SocketRequest:
    """What a client asks for when it connects; without `session_id` a new session."""

    persona_id: UUID
    session_id: UUID | None
    detail: Detail


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A stored session at one moment. `floor` is the number of the last frame whose content it holds."""

    message_count: int
    floor: int
    active_turn_id: UUID | None
    messages: list[MessageBody]


_NEW_SESSION: Final = _Snapshot(message_count=0, floor=0, active_turn_id=None, messages=[])


class ChatService:
    def __init__(
        self,
        database: Database,
        *,
        personas: Personas,
        members: Members,
        links: CitedSources,
        hub: SessionHub,
        turns: TurnRunner,
        records: TurnRecords,
        settings: ChatSettings,
    ) -> None:
        self._database = database
        self._personas = personas
        self._members = members
        self._links = links
        self._hub = hub
        self._turns = turns
        self._records = records
        self._settings = settings
        self._rate = QuestionRate(settings.questions_per_minute)

    async def open(self, principal: Principal, request: SocketRequest) -> Outlet:
        """Join a socket to its session, greeted and receiving the session's frames; `leave` ends it.

        Raises:
            Unauthenticated: The member was deactivated.
            NotFound: Persona or session is unknown or not theirs, or the persona is not active and they only learn.
            TooManySockets: The user has as many as allowed.
            Restarting: This process is about to stop.
        """
        if self._turns.is_draining:
            raise Restarting
        session_id = request.session_id or new_id()
        limits = QueueLimits(frames=self._settings.queue_frames, bytes=self._settings.queue_bytes)
        outlet = Outlet(user_id=principal.user_id, session_id=session_id, detail=request.detail, limits=limits)
        # Joined before the session is read, so that no frame falls between what is stored and what is live.
        self._hub.join(outlet)
        running = self._turns.of_session(session_id)
        told = 0 if running is None else running.last_seq
        try:
            snapshot = await self._snapshot(principal, request)
        except BaseException:
            self._hub.leave(outlet)
            raise
        info = SessionInfo(
            session_id=session_id,
            persona_id=request.persona_id,
            message_count=snapshot.message_count,
            last_seq=max(snapshot.floor, told),
            resumed=False,
            active_turn_id=snapshot.active_turn_id,
        )
        history = [HistoryMessage(session_id=session_id, message=message) for message in snapshot.messages]
        outlet.greet([info, *history], floor=snapshot.floor)
        return outlet

    def leave(self, outlet: Outlet) -> None:
        self._hub.leave(outlet)

    async def _snapshot(self, principal: Principal, request: SocketRequest) -> _Snapshot:
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._members.require_active(session, principal)
            card = await self._personas.card(session, principal, request.persona_id)
            if not card.is_active and not principal.role.at_least(Role.EXPERT):
                raise NotFound
            if request.session_id is None:
                return _NEW_SESSION
            repository = ChatRepository(session, principal.org_id)
            # Neither a turn's beginning nor its end may fall between the reads that follow.
            conversation = await repository.conversation(request.session_id, principal.user_id, shared_lock=True)
            if conversation is None or conversation.persona_id != request.persona_id:
                raise SessionNotFound
            running = await repository.running_turn(conversation.id)
            messages = await repository.latest_messages(conversation.id, limit=self._settings.history_messages)
            return _Snapshot(
                message_count=conversation.message_count,
                # A turn's first number is that of its question, which is stored.
                floor=conversation.last_seq if running is None else running.first_seq,
                active_turn_id=None if running is None else running.id,
                messages=await message_bodies(session, messages, links=self._links),
            )

    async def ask(self, principal: Principal, question: Question) -> list[MessageBody]:
        """Store a question and begin its turn.

        A question whose `client_msg_id` is stored already begins nothing. While its turn runs nothing is returned,
        since the turn's frames tell; afterwards the stored question and its answer are.

        Raises:
            MemberDeactivated, SessionDeleted, Restarting: The socket is of no more use.
            TooManyQuestions, QuotaExhausted, PersonaUnavailable, TurnInProgress: Nothing was stored.
        """
        if self._turns.is_draining:
            raise Restarting if self._turns.of_session(question.session_id) is None else TurnInProgress
        self._rate.admit(principal.user_id)
        # A socket that closes between the commit and the start of the turn must not leave a turn that nobody runs.
        return await asyncio.shield(self._turns.own(self._begin(principal, question)))

    async def _begin(self, principal: Principal, question: Question) -> list[MessageBody]:
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._require_answerable(session, principal, persona_id=question.persona_id)
            repository = ChatRepository(session, principal.org_id)
            conversation = await _locked(repository, principal, question)
            known = await repository.question(conversation.id, question.client_msg_id)
            running = await repository.running_turn(conversation.id)
            if known is not None:
                return await self._handled_before(session, known, running=running)
            if running is not None:
                raise TurnInProgress
            started = await self._records.begin(session, principal, question=question, conversation=conversation)
        self._turns.start(started)
        return []

    async def _require_answerable(self, session: AsyncSession, principal: Principal, *, persona_id: UUID) -> None:
        try:
            # Whoever removes the asker erases what they said: a first question is there by then, or not taken.
            await self._members.require_active(session, principal, hold=True)
        except Unauthenticated as error:
            raise MemberDeactivated from error
        try:
            card = await self._personas.card(session, principal, persona_id)
        except NotFound as error:
            raise PersonaUnavailable from error
        if not card.is_active:
            raise PersonaUnavailable

    async def _handled_before(
        self, session: AsyncSession, question: Message, *, running: Turn | None
    ) -> list[MessageBody]:
        if running is not None and running.question_id == question.id:
            return []
        answer = await ChatRepository(session, question.org_id).answer_to(question.id)
        messages = [question] if answer is None else [question, answer]
        return await message_bodies(session, messages, links=self._links)

    def cancel(self, session_id: UUID, turn_id: UUID) -> None:
        """Stop the turn; without effect if it has ended, since its end was told."""
        self._turns.stop(session_id, StopReason.CANCELLED, turn_id=turn_id)

    async def delete(self, principal: Principal, session_id: UUID) -> None:
        """Erase what was said, end the turn that runs, and close the session's sockets."""
        async with self._database.unit_of_work(principal.org_id) as session:
            repository = ChatRepository(session, principal.org_id)
            conversation = await repository.lock_conversation(session_id)
            if conversation is None or conversation.deleted_at or conversation.user_id != principal.user_id:
                raise SessionNotFound
            if not principal.may_use(conversation.persona_id):
                raise SessionNotFound
            running = await repository.running_turn(session_id)
            if running is not None:
                await self._records.abandon(session, running)
            await repository.erase(conversation)
        self._turns.stop(session_id, StopReason.NOT_OURS)
        self._hub.close_session(session_id, CloseCode.SESSION_DELETED)


async def _locked(repository: ChatRepository, principal: Principal, question: Question) -> Conversation:
    """The question's conversation, stored if this is its first question."""
    conversation = await repository.lock_conversation(question.session_id)
    if conversation is None:
        await repository.add_conversation(
            question.session_id,
            user_id=principal.user_id,
            persona_id=question.persona_id,
            title=_title(question.content),
        )
        conversation = await repository.lock_conversation(question.session_id)
    if conversation is None or conversation.user_id != principal.user_id:
        raise SessionNotFound
    if conversation.deleted_at is not None:
        raise SessionDeleted
    return conversation


def _title(content: str) -> str:
    """The first question on one line, cut after a word."""
    line = " ".join(content.split())
    if len(line) <= _TITLE_CHARACTERS:
        return line
    cut = line[:_TITLE_CHARACTERS]
    return (cut.rpartition(" ")[0] or cut) + "…"
