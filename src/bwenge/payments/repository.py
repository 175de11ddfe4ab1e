"""Every query on subscriptions, quotas and reservations. Rows are asked for by organisation, besides the policy."""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.payments.contract import QuotaKind
from bwenge.payments.models import QuotaReservation, Subscription, UsageQuota

_IN_FORCE: Final = Subscription.status.in_(["active", "past_due"])


async def find_subscription(session: AsyncSession, org_id: UUID, *, at: datetime) -> Subscription | None:
    """The one in force at that moment."""
    return await session.scalar(
        select(Subscription).where(
            Subscription.org_id == org_id,
            _IN_FORCE,
            Subscription.current_period_start <= at,
            Subscription.current_period_end > at,
        )
    )


async def lock_subscriptions(session: AsyncSession, org_id: UUID) -> None:
    """Changes of an organisation's subscriptions take turns, also where it has none yet that could be locked."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('subscriptions:' || CAST(:org_id AS text), 0))"),
        {"org_id": str(org_id)},
    )


async def end_subscriptions(session: AsyncSession, org_id: UUID, *, at: datetime) -> None:
    """End what is in force: as expired where its period was over, else as cancelled at that moment."""
    in_force = update(Subscription).where(Subscription.org_id == org_id, _IN_FORCE)
    await session.execute(in_force.where(Subscription.current_period_end <= at).values(status="expired"))
    await session.execute(
        in_force.values(
            status="cancelled",
            # The machine's clock may have been set back.
            current_period_end=func.greatest(Subscription.current_period_start, at),
        )
    )


async def add_subscription(session: AsyncSession, subscription: Subscription) -> None:
    session.add(subscription)
    await session.flush()


async def used(session: AsyncSession, org_id: UUID, *, kind: QuotaKind, period_starts: Collection[datetime]) -> int:
    """In all of these periods together."""
    query = select(func.sum(UsageQuota.used)).where(
        UsageQuota.org_id == org_id, UsageQuota.kind == kind, UsageQuota.period_start.in_(period_starts)
    )
    return int(await session.scalar(query) or 0)


async def lock_usage(session: AsyncSession, org_id: UUID, *, kind: QuotaKind, period_start: datetime) -> UsageQuota:
    """The period's row, made where it is missing; nobody else changes the period until the transaction ends."""
    query = select(UsageQuota).where(*_of(org_id, kind, period_start)).with_for_update()
    usage = await session.scalar(query, execution_options={"populate_existing": True})
    if usage is not None:
        return usage
    await session.execute(
        insert(UsageQuota).values(org_id=org_id, kind=kind, period_start=period_start).on_conflict_do_nothing()
    )
    return (await session.scalars(query, execution_options={"populate_existing": True})).one()


async def lock_act(session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID) -> None:
    """Twins that reserve for an act take turns, also where it has no reservation yet that could be locked.

    Whoever locks it locks it before the reservation and the period's row.
    """
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:act, 0))"), {"act": f"quota:{org_id}:{kind}:{act_id}"}
    )


async def lock_reservation(
    session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID
) -> QuotaReservation | None:
    """Whoever locks both locks the reservation before the period's row."""
    query = (
        select(QuotaReservation)
        .where(
            QuotaReservation.org_id == org_id,
            QuotaReservation.kind == kind,
            QuotaReservation.act_id == act_id,
        )
        .with_for_update()
    )
    return await session.scalar(query, execution_options={"populate_existing": True})


async def add_reservation(
    session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID, period_start: datetime, amount: int
) -> None:
    """For an act that the transaction has locked and that has none."""
    await session.execute(
        insert(QuotaReservation).values(
            org_id=org_id, kind=kind, act_id=act_id, period_start=period_start, amount=amount
        )
    )


def _of(org_id: UUID, kind: QuotaKind, period_start: datetime) -> tuple[ColumnElement[bool], ...]:
    return (UsageQuota.org_id == org_id, UsageQuota.kind == kind, UsageQuota.period_start == period_start)
