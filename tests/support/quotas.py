"""The product's own quotas, on a clock that a test may turn, and what they have written."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from bwenge.auth.audit import AuditTrail
from bwenge.auth.tenants import TenantDirectory
from bwenge.kit.db import PLATFORM, Database
from bwenge.payments.contract import PlanName, QuotaKind
from bwenge.payments.periods import Clock, utc_now
from bwenge.payments.quotas import PlanQuotas
from bwenge.payments.service import Grant
from bwenge.payments.wiring import PaymentsFeature, build

MIDYEAR: Final = datetime(2026, 6, 15, 12, tzinfo=UTC)

_ACTS: Final = text("SELECT kind, act_id, amount, state, period_start FROM quota_reservations WHERE org_id = :org_id")
_USED: Final = text("SELECT period_start, used FROM usage_quotas WHERE org_id = :org_id AND kind = :kind")
_DRIFT: Final = text(
    """
    SELECT usage_quotas.kind, usage_quotas.period_start, used,
           coalesce(sum(amount) FILTER (WHERE state <> 'released'), 0) AS reserved
    FROM usage_quotas LEFT JOIN quota_reservations USING (org_id, kind, period_start)
    GROUP BY org_id, kind, period_start, used
    HAVING used <> coalesce(sum(amount) FILTER (WHERE state <> 'released'), 0)
    """
)


def plan_quotas(*, clock: Clock = utc_now) -> PlanQuotas:
    return PlanQuotas(TenantDirectory(), clock=clock)


def payments_feature(database: Database, *, clock: Clock = utc_now) -> PaymentsFeature:
    return build(database, tenants=TenantDirectory(), audit=AuditTrail(), clock=clock)


@dataclass
class SetClock:
    """Shows the time that the test has set."""

    now: datetime = MIDYEAR

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Metered:
    """One organisation's quotas in units of work of their own, as its acts would change them."""

    database: Database
    org_id: UUID
    clock: SetClock = field(default_factory=SetClock)

    @property
    def quotas(self) -> PlanQuotas:
        return plan_quotas(clock=self.clock)

    async def reserve(self, act_id: UUID, amount: int = 1, *, kind: QuotaKind = QuotaKind.MESSAGES) -> None:
        async with self.database.unit_of_work(self.org_id) as session:
            await self.quotas.reserve(session, self.org_id, kind=kind, amount=amount, act_id=act_id)

    async def settle(self, act_id: UUID, *, kind: QuotaKind = QuotaKind.MESSAGES) -> None:
        async with self.database.unit_of_work(self.org_id) as session:
            await self.quotas.settle(session, self.org_id, kind=kind, act_id=act_id)

    async def release(self, act_id: UUID, *, kind: QuotaKind = QuotaKind.MESSAGES) -> None:
        async with self.database.unit_of_work(self.org_id) as session:
            await self.quotas.release(session, self.org_id, kind=kind, act_id=act_id)

    async def require_room(self, amount: int, *, kind: QuotaKind = QuotaKind.MESSAGES) -> None:
        async with self.database.unit_of_work(self.org_id) as session:
            await self.quotas.require_room(session, self.org_id, kind=kind, amount=amount)

    async def grant(self, plan_name: PlanName, until: datetime) -> None:
        payments = payments_feature(self.database, clock=self.clock)
        await payments.subscriptions.grant(self.org_id, Grant(plan_name, until, "A pilot"), by=None)

    async def used(self, kind: QuotaKind = QuotaKind.MESSAGES) -> int:
        """In the present period."""
        async with self.database.unit_of_work(self.org_id) as session:
            present = await self.quotas.present(session, self.org_id)
        return (present.messages if kind is QuotaKind.MESSAGES else present.storage).used

    async def used_by_period(self, kind: QuotaKind = QuotaKind.MESSAGES) -> dict[datetime, int]:
        async with self.database.unit_of_work(self.org_id) as session:
            rows = await session.execute(_USED, {"org_id": self.org_id, "kind": kind.value})
            return {row.period_start: row.used for row in rows}


async def leave(database: Database, org_id: UUID, amount: int, *, kind: QuotaKind = QuotaKind.MESSAGES) -> None:
    """Use the free plan up but for this amount."""
    metered = Metered(database, org_id, SetClock(utc_now()))
    async with database.unit_of_work(org_id) as session:
        present = await metered.quotas.present(session, org_id)
    use = present.messages if kind is QuotaKind.MESSAGES else present.storage
    assert use.limit is not None
    await metered.reserve(UUID(int=1), use.limit - use.used - amount, kind=kind)


async def acts(database: Database, org_id: UUID) -> list[dict[str, Any]]:
    """The organisation's reservations, but for that of `leave`."""
    async with database.unit_of_work(org_id) as session:
        rows = (await session.execute(_ACTS, {"org_id": org_id})).mappings()
        return [dict(row) for row in rows if row["act_id"] != UUID(int=1)]


async def drifted(database: Database) -> list[dict[str, Any]]:
    """Periods whose used amount is not the sum of what is reserved and settled in them."""
    async with database.unit_of_work(PLATFORM) as session:
        return [dict(row) for row in (await session.execute(_DRIFT)).mappings()]
