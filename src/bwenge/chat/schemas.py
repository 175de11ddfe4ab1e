"""Wire shapes that sockets and HTTP share, and those of HTTP alone."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from bwenge.chat.models import Conversation
from bwenge.kit.http.schemas import ResponseBody, Timestamp


class MessageMetadata(ResponseBody):
    """What is known of an answer; of a question, and of an answer that was cut off, the fields are empty."""

    citations: list[dict[str, Any]] = Field(default_factory=list)
    animation_hint: str | None = None
    actions: list[dict[str, Any]] = Field(default_factory=list)
    grounded: bool | None = None
    model: str | None = None
    finish_reason: str | None = None


class MessageBody(ResponseBody):
    message_id: UUID
    sender: Literal["user", "assistant"]
    content: str
    timestamp: Timestamp
    metadata: MessageMetadata


class SessionBody(ResponseBody):
    session_id: UUID
    persona_id: UUID
    title: str
    message_count: int
    created_at: Timestamp
    updated_at: Timestamp


class SessionPage(ResponseBody):
    """Newest first."""

    items: list[SessionBody]
    next_cursor: str | None


class SessionMessages(ResponseBody):
    """Oldest first; `total` counts the session's messages, not the page's."""

    session_id: UUID
    messages: list[MessageBody]
    total: int


def session_body(conversation: Conversation) -> SessionBody:
    return SessionBody(
        session_id=conversation.id,
        persona_id=conversation.persona_id,
        title=conversation.title,
        message_count=conversation.message_count,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
    )
