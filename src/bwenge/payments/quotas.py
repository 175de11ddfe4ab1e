"""Quotas that hold under concurrency: a period's row is locked while a reservation is made or given back."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import Tenants
from bwenge.payments import repository
from bwenge.payments.contract import QuotaKind, QuotaUse
from bwenge.payments.errors import QuotaExhausted
from bwenge.payments.periods import Clock, Counter, Period, calendar_month, month_within, utc_now
from bwenge.payments.plans import FREE, GB, MB, Plan, plan_named
from bwenge.payments.standing import Present, Standing


class PlanQuotas:
    """Implements `payments.contract.Quotas` and `auth.contract.SeatPolicy`."""

    def __init__(self, tenants: Tenants, *, clock: Clock = utc_now) -> None:
        self._tenants = tenants
        self._clock = clock

    async def seats(self, session: AsyncSession, org_id: UUID) -> int | None:
        return (await self._standing(session, org_id)).plan.users

    async def present(self, session: AsyncSession, org_id: UUID) -> Present:
        """Raises `NotFound` for an organisation that is not there."""
        standing = await self._standing(session, org_id)
        return Present(
            standing=standing,
            messages=await self._use(session, org_id, kind=QuotaKind.MESSAGES, standing=standing),
            storage=await self._use(session, org_id, kind=QuotaKind.STORAGE, standing=standing),
            users=QuotaUse(limit=standing.plan.users, used=await self._tenants.seats_taken(session, org_id)),
        )

    async def require_room(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, amount: int) -> None:
        standing = await self._standing(session, org_id)
        use = await self._use(session, org_id, kind=kind, standing=standing)
        if not use.has_room(amount):
            raise await self._exhausted(session, org_id, kind=kind, standing=standing, use=use, amount=amount)

    async def reserve(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, amount: int, act_id: UUID) -> None:
        if amount < 0:
            raise ValueError("an act takes nothing less than nothing")
        standing = await self._standing(session, org_id)
        period_start = standing.counter(kind).start
        await repository.lock_act(session, org_id, kind=kind, act_id=act_id)
        earlier = await repository.lock_reservation(session, org_id, kind=kind, act_id=act_id)
        if earlier is not None and earlier.state != "released":
            return
        usage = await repository.lock_usage(session, org_id, kind=kind, period_start=period_start)
        use = await self._use(session, org_id, kind=kind, standing=standing)
        if not use.has_room(amount):
            raise await self._exhausted(session, org_id, kind=kind, standing=standing, use=use, amount=amount)
        if earlier is not None:
            earlier.period_start, earlier.amount, earlier.state = period_start, amount, "reserved"
        else:
            await repository.add_reservation(
                session, org_id, kind=kind, act_id=act_id, period_start=period_start, amount=amount
            )
        usage.used += amount
        await session.flush()

    async def settle(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID) -> None:
        reservation = await repository.lock_reservation(session, org_id, kind=kind, act_id=act_id)
        if reservation is not None and reservation.state == "reserved":
            reservation.state = "settled"
            await session.flush()

    async def release(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID) -> None:
        reservation = await repository.lock_reservation(session, org_id, kind=kind, act_id=act_id)
        if reservation is None or reservation.state != "reserved":
            return
        usage = await repository.lock_usage(session, org_id, kind=kind, period_start=reservation.period_start)
        reservation.state = "released"
        usage.used -= reservation.amount
        await session.flush()

    async def _standing(self, session: AsyncSession, org_id: UUID) -> Standing:
        now = self._clock()
        subscription = await repository.find_subscription(session, org_id, at=now)
        plan = FREE if subscription is None else plan_named(subscription.plan_name)
        if subscription is None or plan is FREE:
            zone = await self._tenants.time_zone(session, org_id)
            return Standing(plan, subscription, calendar_month(now, zone), Counter.of_calendar_month(now, zone))
        period = month_within(Period(subscription.current_period_start, subscription.current_period_end), now)
        return Standing(plan, subscription, period, Counter.of_period(period.start))

    async def _use(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, standing: Standing) -> QuotaUse:
        used = await repository.used(session, org_id, kind=kind, period_starts=standing.counter(kind).counted)
        return QuotaUse(limit=standing.plan.limit(kind), used=used)

    async def _exhausted(
        self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, standing: Standing, use: QuotaUse, amount: int
    ) -> QuotaExhausted:
        left = max(0, (use.limit or 0) - use.used)
        if kind is QuotaKind.STORAGE:
            return QuotaExhausted(_no_storage(standing.plan, left=left, needed=amount))
        zone = await self._tenants.time_zone(session, org_id)
        renewal = standing.period.end.astimezone(zone).date()
        return QuotaExhausted(
            f"The {use.limit:,} messages of the {standing.plan.display_name} plan are used up until {renewal}; "
            "for more, ask an administrator of your organisation to choose a larger plan"
        )


def _no_storage(plan: Plan, *, left: int, needed: int) -> str:
    return (
        f"The file needs {_size(needed)} and {_size(left)} of the {plan.display_name} plan's storage are left; "
        "delete sources that are not needed any more, or ask an administrator to choose a larger plan"
    )


def _size(count: int) -> str:
    for unit, name in ((GB, "GB"), (MB, "MB"), (1024, "KB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
