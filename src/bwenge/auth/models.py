from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base, Timestamped


class Organization(Timestamped, Base):
    """A tenant. Every other tenant table names it in `org_id`. From `deleted_at` on, it is being erased."""

    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    time_zone: Mapped[str] = mapped_column(server_default="Africa/Kigali")
    language: Mapped[str] = mapped_column(server_default="en")
    deleted_at: Mapped[datetime | None]


class ErasedOrganization(Base):
    """A tombstone: this organisation, by its id, is to be found nowhere else, or is being erased.

    `reference` stands in the place of its id in the records that the law wants kept.
    """

    __tablename__ = "erased_organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    reference: Mapped[UUID]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    erased_at: Mapped[datetime | None]


class User(Timestamped, Base):
    """A member of one organisation or, without one, an operator; known by an email address, a username, or both."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'expert', 'user', 'operator')", name="role"),
        CheckConstraint("(role = 'operator') = (org_id IS NULL)", name="operator"),
        CheckConstraint("email IS NOT NULL OR username IS NOT NULL", name="identifier"),
        Index("uq_users_email", func.lower(text("email")), unique=True),
        Index("uq_users_username", func.lower(text("username")), unique=True),
        Index("ix_users_org_id", "org_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    name: Mapped[str]
    email: Mapped[str | None]
    username: Mapped[str | None]
    password_hash: Mapped[str]
    role: Mapped[str]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    language: Mapped[str] = mapped_column(server_default="en")
    erased_at: Mapped[datetime | None]
    """When the member was removed: the row stays for what names it, and says no more of the person."""

    @property
    def organization_id(self) -> UUID:
        """Of a member; an operator has none."""
        if self.org_id is None:
            raise ValueError("an operator belongs to no organisation")
        return self.org_id


class RefreshToken(Base):
    """A refresh token, stored as its SHA-256. Tokens rotated from one login share a family."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index("uq_refresh_tokens_token_hash", "token_hash", unique=True),
        Index("ix_refresh_tokens_family_id", "family_id"),
        Index("ix_refresh_tokens_user_id", "user_id"),
        Index("ix_refresh_tokens_org_id", "org_id"),
        Index("ix_refresh_tokens_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    family_id: Mapped[UUID]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key that acts for the member who made it, stored as its SHA-256.

    Attributes:
        prefix: How the key begins, by which people tell their keys apart.
        persona_ids: The personas that it is confined to; None means all. They are a higher feature's, so no foreign
            key names them.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'expert', 'user')", name="role"),
        Index("uq_api_keys_key_hash", "key_hash", unique=True),
        Index("ix_api_keys_org_id", "org_id", "id"),
        Index("ix_api_keys_created_by", "created_by"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    role: Mapped[str]
    prefix: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    persona_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid(as_uuid=True)))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class LoginFailures(Base):
    """Wrong passwords for one account from one network, whether there is such an account or not."""

    __tablename__ = "login_failures"
    __table_args__ = (Index("ix_login_failures_last_failed_at", "last_failed_at"),)

    account_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    network: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    first_failed_at: Mapped[datetime]
    last_failed_at: Mapped[datetime]


class PasswordResetLink(Base):
    """A link that was mailed: whoever holds its token, stored as its SHA-256, may set a password once."""

    __tablename__ = "password_reset_links"
    __table_args__ = (
        Index("ix_password_reset_links_user_id", "user_id"),
        Index("ix_password_reset_links_org_id", "org_id"),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]


class PasswordResetCode(Base):
    """The one code that a member was shown to set a password with; a new one takes its place."""

    __tablename__ = "password_reset_codes"
    __table_args__ = (
        Index("ix_password_reset_codes_org_id", "org_id"),
        Index("ix_password_reset_codes_issued_by", "issued_by"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    issued_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_hash: Mapped[str]
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]


class Group(Timestamped, Base):
    """A class: its owner is the expert who teaches it."""

    __tablename__ = "groups"
    __table_args__ = (Index("ix_groups_org_id", "org_id", "id"), Index("ix_groups_owner_id", "owner_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    name: Mapped[str]
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class GroupMember(Base):
    """A learner in a class."""

    __tablename__ = "group_members"
    __table_args__ = (Index("ix_group_members_user_id", "user_id"), Index("ix_group_members_org_id", "org_id"))

    group_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))


class GroupPersona(Base):
    """A persona that the learners of a class see. Personas are a higher feature's, so no foreign key names them."""

    __tablename__ = "group_personas"
    __table_args__ = (
        Index("ix_group_personas_persona_id", "persona_id"),
        Index("ix_group_personas_org_id", "org_id"),
    )

    group_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True)
    persona_id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))


class Invitation(Timestamped, Base):
    """An address that may open an account, and holds a seat until it does or the time is over.

    The row is there as long as the invitation is open: who accepts or revokes it removes it.
    """

    __tablename__ = "invitations"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'expert', 'user')", name="role"),
        Index("uq_invitations_token_hash", "token_hash", unique=True),
        Index("uq_invitations_email", "org_id", "email", unique=True),
        Index("ix_invitations_org_id", "org_id", "id"),
        Index("ix_invitations_invited_by", "invited_by"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    email: Mapped[str]
    name: Mapped[str | None]
    role: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    invited_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    expires_at: Mapped[datetime]


class JoinLink(Timestamped, Base):
    """A link by which learners open accounts of their own; its row is there until it is revoked."""

    __tablename__ = "join_links"
    __table_args__ = (
        CheckConstraint("uses BETWEEN 0 AND max_uses", name="uses"),
        Index("uq_join_links_token_hash", "token_hash", unique=True),
        Index("ix_join_links_org_id", "org_id", "id"),
        Index("ix_join_links_group_id", "group_id"),
        Index("ix_join_links_created_by", "created_by", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    group_id: Mapped[UUID | None] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"))
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    max_uses: Mapped[int]
    uses: Mapped[int] = mapped_column(server_default="0")
    expires_at: Mapped[datetime]


class AuditRecord(Base):
    """A fact that outlives its subject: ids are kept without foreign keys, but for the organisation's own.

    Without an organisation: what was done to the platform, by or to its operators.
    """

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_org_id", "org_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    actor_id: Mapped[UUID | None]
    action: Mapped[str]
    target_type: Mapped[str | None]
    target_id: Mapped[str | None]
    address: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
