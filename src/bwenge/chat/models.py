from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base, Timestamped


class Conversation(Timestamped, Base):
    """A learner's chat session with a persona; its id is the protocol's `session_id`.

    `last_seq` is the highest frame number given out or reserved in this session.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        Index("ix_conversations_org_id", "org_id"),
        Index("ix_conversations_user_id", "user_id", "id"),
        Index("ix_conversations_persona_id", "persona_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    persona_id: Mapped[UUID] = mapped_column(ForeignKey("personas.id", ondelete="CASCADE"))
    title: Mapped[str]
    message_count: Mapped[int] = mapped_column(server_default="0")
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    deleted_at: Mapped[datetime | None]


class Message(Base):
    """One message, a question or an answer; `details` is the protocol's `metadata`."""

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("sender IN ('user', 'assistant')", name="sender"),
        Index("ix_messages_conversation_id", "conversation_id", "id"),
        Index(
            "uq_messages_client_msg_id",
            "conversation_id",
            "client_msg_id",
            unique=True,
            postgresql_where=text("client_msg_id IS NOT NULL"),
        ),
        Index("ix_messages_org_id", "org_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    sender: Mapped[str]
    content: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB)
    client_msg_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Turn(Timestamped, Base):
    """One question and its answer, owned by a process under a lease; at most one runs in a session."""

    __tablename__ = "turns"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'finished', 'cancelled', 'failed', 'lost')", name="state"),
        Index("uq_turns_running", "conversation_id", unique=True, postgresql_where=text("state = 'running'")),
        Index("ix_turns_leases", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_turns_org_id", "org_id"),
        Index("ix_turns_conversation_id", "conversation_id"),
        Index("ix_turns_question_id", "question_id"),
        Index("ix_turns_answer_id", "answer_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    question_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    answer_id: Mapped[UUID | None] = mapped_column(ForeignKey("messages.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(server_default="running")
    owner: Mapped[str]
    lease_until: Mapped[datetime]
    first_seq: Mapped[int] = mapped_column(BigInteger)
    reserved_seqs: Mapped[int]
    finish_reason: Mapped[str | None]
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    finished_at: Mapped[datetime | None]
