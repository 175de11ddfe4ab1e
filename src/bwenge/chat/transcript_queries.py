"""Queries over the conversations of a whole organisation, for those who may read others'."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.chat.models import Conversation, Message, Turn

ACTIVE: Final = timedelta(hours=24)
"""A session is active for so long after its last message."""


@dataclass(frozen=True, slots=True)
class PersonaActivity:
    """Of one persona: its active sessions, and its messages since the day began."""

    persona_id: UUID
    sessions: int
    messages: int


async def find_conversation(session: AsyncSession, conversation_id: UUID, *, org_id: UUID) -> Conversation | None:
    """Anybody's, unless deleted."""
    return await session.scalar(
        select(Conversation).where(
            Conversation.org_id == org_id, Conversation.id == conversation_id, Conversation.deleted_at.is_(None)
        )
    )


async def activity(session: AsyncSession, *, org_id: UUID, time_zone: tzinfo) -> Sequence[PersonaActivity]:
    """Of each persona that was spoken with lately, the busiest first; the day is that of the time zone."""
    today = func.date_trunc("day", func.now(), str(time_zone))
    active_since = func.now() - ACTIVE
    earliest = func.least(today, active_since)
    sessions = func.count(Conversation.id.distinct()).filter(Message.created_at >= active_since)
    messages = func.count().filter(Message.created_at >= today)
    rows = await session.execute(
        select(Conversation.persona_id, sessions, messages)
        .join(Message, Message.conversation_id == Conversation.id)
        # Each message changes its conversation, so older ones need not be looked into.
        .where(Conversation.org_id == org_id, Conversation.updated_at >= earliest)
        .where(Message.org_id == org_id, Message.created_at >= earliest)
        .group_by(Conversation.persona_id)
        .order_by(messages.desc(), sessions.desc(), Conversation.persona_id)
    )
    return [PersonaActivity(*row) for row in rows]


async def count_running_turns(session: AsyncSession, *, org_id: UUID) -> int:
    query = select(func.count()).select_from(Turn).where(Turn.org_id == org_id, Turn.state == "running")
    return await session.scalar(query) or 0
