"""Work that recurs: one job of a kind for each period, whoever keeps the time and however many do.

A period is counted from the epoch by PostgreSQL's clock, so that all agree on which is the present one, and no machine
whose own clock is ahead silences the others. Who finds that nobody has asked for the present one yet writes the job; a
start after a pause therefore makes up for what was missed, once.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.models import JobSchedule
from bwenge.kit.jobs.queue import NewJob, enqueue

_log = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 60.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recurring:
    """A kind of job, of the maintenance queue and without a payload, that is done once in each period."""

    kind: str
    every: timedelta

    def period_end(self, at: datetime) -> datetime:
        return _EPOCH + ((at - _EPOCH) // self.every + 1) * self.every


async def ask_for(database: Database, recurring: Recurring, *, at: datetime | None = None) -> bool:
    """Write the job of the present period. Returns False where it was written already, or the last is unfinished."""
    async with database.unit_of_work(PLATFORM) as session:
        now = at or (await session.execute(select(func.clock_timestamp()))).scalar_one()
        end = recurring.period_end(now)
        marked = await session.scalar(
            insert(JobSchedule)
            .values(kind=recurring.kind, asked_until=end)
            .on_conflict_do_update(
                index_elements=[JobSchedule.kind],
                set_={"asked_until": end},
                where=JobSchedule.asked_until < end,
            )
            .returning(JobSchedule.kind)
        )
        if marked is None:
            return False
        return await enqueue(session, NewJob(recurring.kind, {}, dedupe_key=f"recurring:{recurring.kind}")) is not None


async def keep_schedule(database: Database, schedule: Collection[Recurring], *, every: float = CHECK_SECONDS) -> None:
    """Ask for whatever recurs, when it is due, until cancelled."""
    while True:
        for recurring in schedule:
            try:
                await ask_for(database, recurring)
            except Exception:  # noqa: BLE001  # PostgreSQL may be away; the next look makes up for it
                _log.warning("recurring_work_not_asked_for", kind=recurring.kind, exc_info=True)
        await asyncio.sleep(every)
