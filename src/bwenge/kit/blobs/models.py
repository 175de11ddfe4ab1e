from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base, Timestamped


class BlobRow(Timestamped, Base):
    """One content of one tenant."""

    __tablename__ = "blobs"
    __table_args__ = (CheckConstraint("state IN ('present', 'deleting')", name="state"),)

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(server_default="present")


class BlobReference(Base):
    """Who needs a content; a row each, so that taking and dropping a reference twice is the same as once.

    A reference that expires is a lease: an upload or a backup holds it until its own work is done.
    """

    __tablename__ = "blob_references"
    __table_args__ = (
        ForeignKeyConstraint(
            ["org_id", "sha256"], ["blobs.org_id", "blobs.sha256"], ondelete="RESTRICT", name="fk_blob_references_blob"
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime | None]
