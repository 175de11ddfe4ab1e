"""How other features tell analytics what happened, in the transaction of the act itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact about an act. The payload never holds the text of a message."""

    org_id: UUID
    event_type: str
    user_id: UUID | None = None
    persona_id: UUID | None = None
    session_id: UUID | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


class EventRecorder(Protocol):
    async def record(self, session: AsyncSession, event: NewEvent) -> None: ...
