from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base


class AnalyticsEvent(Base):
    """A fact about an act, written in the act's own transaction. Never holds the text of a message."""

    __tablename__ = "analytics_events"
    __table_args__ = (
        Index("ix_analytics_events_org_id", "org_id", "occurred_at"),
        Index("ix_analytics_events_user_id", "user_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    persona_id: Mapped[UUID | None]
    session_id: Mapped[UUID | None]
    event_type: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
