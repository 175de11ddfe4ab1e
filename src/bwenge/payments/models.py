from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base, Timestamped


class Subscription(Timestamped, Base):
    """A plan that an organisation has, or had, from `current_period_start` to `current_period_end`.

    `granted_reason` says why, where the plan was given without payment. At most one of an organisation's is in force.
    """

    __tablename__ = "subscriptions"
    __table_args__ = (
        CheckConstraint("plan_name IN ('free', 'basic', 'pro', 'enterprise')", name="plan_name"),
        CheckConstraint("status IN ('pending', 'active', 'past_due', 'cancelled', 'expired')", name="status"),
        CheckConstraint("current_period_start <= current_period_end", name="period"),
        Index(
            "uq_subscriptions_in_force",
            "org_id",
            unique=True,
            postgresql_where=text("status IN ('active', 'past_due')"),
        ),
        Index("ix_subscriptions_org_id", "org_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    plan_name: Mapped[str]
    status: Mapped[str]
    current_period_start: Mapped[datetime]
    current_period_end: Mapped[datetime]
    cancel_at_period_end: Mapped[bool] = mapped_column(server_default=text("false"))
    provider_subscription_id: Mapped[str | None]
    granted_reason: Mapped[str | None]


class UsageQuota(Timestamped, Base):
    """What an organisation has used of one quota in one period: always the sum of its reservations there.

    Whoever changes a reservation changes this row in the same transaction, and holds its lock. A calendar month begins
    in UTC, whatever the organisation's time zone (in older rows: on the organisation's clock).
    """

    __tablename__ = "usage_quotas"
    __table_args__ = (
        CheckConstraint("kind IN ('messages', 'storage')", name="kind"),
        CheckConstraint("used >= 0", name="used"),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(BigInteger, server_default="0")


class QuotaReservation(Timestamped, Base):
    """What one act took of a quota. `act_id` is the act's own: a turn, an answer, a source."""

    __tablename__ = "quota_reservations"
    __table_args__ = (
        CheckConstraint("kind IN ('messages', 'storage')", name="kind"),
        CheckConstraint("state IN ('reserved', 'settled', 'released')", name="state"),
        CheckConstraint("amount >= 0", name="amount"),
        ForeignKeyConstraint(
            ["org_id", "kind", "period_start"],
            ["usage_quotas.org_id", "usage_quotas.kind", "usage_quotas.period_start"],
            ondelete="CASCADE",
        ),
        Index("ix_quota_reservations_period", "org_id", "kind", "period_start"),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    act_id: Mapped[UUID] = mapped_column(primary_key=True)
    period_start: Mapped[datetime]
    amount: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(server_default="reserved")
