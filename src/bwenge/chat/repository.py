"""Every query of chat. A tenant's rows are asked for by organisation, besides the policy that stands behind."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.chat.models import Conversation, Message, Turn

_NOW: Final = func.clock_timestamp()


def lease_end(seconds: float) -> ColumnElement[Any]:
    """That many seconds from now by the database's clock, which all owners share."""
    return _NOW + timedelta(seconds=seconds)


class ChatRepository:
    """One tenant's conversations in one transaction. Whoever locks rows locks the conversation first."""

    def __init__(self, session: AsyncSession, org_id: UUID) -> None:
        self._session = session
        self._org_id = org_id

    async def conversation(
        self, conversation_id: UUID, user_id: UUID, *, shared_lock: bool = False
    ) -> Conversation | None:
        """The user's own, unless deleted; locked, its turns neither begin nor end until this transaction does."""
        query = select(Conversation).where(
            Conversation.org_id == self._org_id,
            Conversation.id == conversation_id,
            Conversation.user_id == user_id,
            Conversation.deleted_at.is_(None),
        )
        return await self._session.scalar(query.with_for_update(read=True) if shared_lock else query)

    async def lock_conversation(self, conversation_id: UUID) -> Conversation | None:
        """Also one that is deleted."""
        return await self._session.scalar(
            select(Conversation)
            .where(Conversation.org_id == self._org_id, Conversation.id == conversation_id)
            .with_for_update()
        )

    async def add_conversation(self, conversation_id: UUID, *, user_id: UUID, persona_id: UUID, title: str) -> None:
        """Store it unless it is there, which may be the work of a transaction at the same moment."""
        await self._session.execute(
            insert(Conversation)
            .values(id=conversation_id, org_id=self._org_id, user_id=user_id, persona_id=persona_id, title=title)
            .on_conflict_do_nothing(index_elements=[Conversation.id])
        )

    async def conversations(
        self, user_id: UUID, *, limit: int, before: UUID | None, persona_ids: Collection[UUID] | None
    ) -> Sequence[Conversation]:
        """The user's own, with these personas or with all; newest first, one more than `limit` where there are more."""
        query = select(Conversation).where(
            Conversation.org_id == self._org_id, Conversation.user_id == user_id, Conversation.deleted_at.is_(None)
        )
        if before is not None:
            query = query.where(Conversation.id < before)
        if persona_ids is not None:
            query = query.where(Conversation.persona_id.in_(persona_ids))
        return (await self._session.scalars(query.order_by(Conversation.id.desc()).limit(limit + 1))).all()

    async def erase(self, conversation: Conversation) -> None:
        """Remove what was said. The row stays, so that an open socket cannot bring the session back."""
        conversation.title = ""
        conversation.message_count = 0
        conversation.deleted_at = _NOW
        await self._session.flush()
        of_conversation = (Turn.org_id == self._org_id, Turn.conversation_id == conversation.id)
        await self._session.execute(delete(Turn).where(*of_conversation))
        await self._session.execute(delete(Message).where(*self._messages_of(conversation.id)))

    async def erase_all(self, user_id: UUID) -> None:
        """As `erase`, for every conversation of the user."""
        locked = await self._session.scalars(
            select(Conversation)
            .where(Conversation.org_id == self._org_id, Conversation.user_id == user_id)
            .order_by(Conversation.id)
            .with_for_update()
        )
        for conversation in locked.all():
            await self.erase(conversation)

    async def messages(self, conversation_id: UUID, *, limit: int, offset: int) -> Sequence[Message]:
        """Oldest first."""
        query = select(Message).where(*self._messages_of(conversation_id)).order_by(Message.id)
        return (await self._session.scalars(query.limit(limit).offset(offset))).all()

    async def latest_messages(self, conversation_id: UUID, *, limit: int) -> Sequence[Message]:
        """The last ones, oldest of them first."""
        query = select(Message).where(*self._messages_of(conversation_id)).order_by(Message.id.desc()).limit(limit)
        return (await self._session.scalars(query)).all()[::-1]

    async def question(self, conversation_id: UUID, client_msg_id: UUID) -> Message | None:
        return await self._session.scalar(
            select(Message).where(*self._messages_of(conversation_id), Message.client_msg_id == client_msg_id)
        )

    async def answer_to(self, question_id: UUID) -> Message | None:
        return await self._session.scalar(
            select(Message)
            .join(Turn, Turn.answer_id == Message.id)
            .where(Turn.org_id == self._org_id, Turn.question_id == question_id)
        )

    async def running_turn(self, conversation_id: UUID) -> Turn | None:
        return await self._session.scalar(
            select(Turn).where(
                Turn.org_id == self._org_id, Turn.conversation_id == conversation_id, Turn.state == "running"
            )
        )

    async def lock_turn(self, turn_id: UUID) -> Turn | None:
        return await self._session.scalar(
            select(Turn).where(Turn.org_id == self._org_id, Turn.id == turn_id).with_for_update()
        )

    async def add(self, row: Message | Turn) -> None:
        self._session.add(row)
        await self._session.flush()

    def _messages_of(self, conversation_id: UUID) -> tuple[ColumnElement[bool], ...]:
        return (Message.org_id == self._org_id, Message.conversation_id == conversation_id)


class LeaseRepository:
    """The leases of running turns, over all tenants."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def renew(self, turn_ids: Collection[UUID], *, owner: str, seconds: float) -> set[UUID]:
        """Prolong the owner's leases; returns the turns that it still holds."""
        renewed = await self._session.scalars(
            update(Turn)
            .where(Turn.id.in_(turn_ids), Turn.owner == owner, Turn.state == "running")
            .values(lease_until=lease_end(seconds))
            .returning(Turn.id)
        )
        return set(renewed.all())

    async def expired(self, *, limit: int) -> Sequence[tuple[UUID, UUID]]:
        """Ids of running turns whose owner is silent, and of their conversations."""
        query = select(Turn.id, Turn.conversation_id).where(Turn.state == "running", Turn.lease_until < _NOW)
        rows = await self._session.execute(query.order_by(Turn.lease_until).limit(limit))
        return [(turn_id, conversation_id) for turn_id, conversation_id in rows]

    async def lock_expired(self, turn_id: UUID, conversation_id: UUID) -> tuple[Turn, Conversation] | None:
        """None if the turn was ended or its lease renewed meanwhile."""
        conversation = await self._session.scalar(
            select(Conversation).where(Conversation.id == conversation_id).with_for_update()
        )
        turn = await self._session.scalar(
            select(Turn).where(Turn.id == turn_id, Turn.state == "running", Turn.lease_until < _NOW).with_for_update()
        )
        return None if conversation is None or turn is None else (turn, conversation)
