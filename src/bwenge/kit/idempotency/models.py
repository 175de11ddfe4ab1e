from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base


class IdempotencyKey(Base):
    """The answer to a request that bore a key, kept for whoever sends the same request again.

    Only what was done has a row: it is written with the result. `owner` and `fingerprint` are keyed hashes, for an
    address and a body with a password could be guessed from plain ones; `answer` is encrypted.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("ix_idempotency_keys_expires", "org_id", "expires_at"),
        Index("ix_idempotency_keys_expires_at", "expires_at"),
    )

    owner: Mapped[bytes] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    answer: Mapped[bytes]
    expires_at: Mapped[datetime]
