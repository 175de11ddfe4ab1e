"""Forgetting jobs that ended long ago, and workers that died."""

from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func, select

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.models import Job, JobWorker
from bwenge.kit.jobs.queue import ClaimedJob

TIDY: Final = "jobs.tidy"

DONE_KEPT: Final = timedelta(days=30)
DEAD_KEPT: Final = timedelta(days=180)
"""A dead job is what somebody may have to explain."""
WORKERS_KEPT: Final = timedelta(days=1)

_AT_ONCE: Final = 1_000


class JobTidying:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, _job: ClaimedJob) -> None:
        """Remove in bounded transactions; what is left by one that is killed, the next removes."""
        for state, kept in (("done", DONE_KEPT), ("dead", DEAD_KEPT)):
            while await self._remove_some(state, kept) == _AT_ONCE:
                pass
        async with self._database.unit_of_work(PLATFORM) as session:
            await session.execute(delete(JobWorker).where(JobWorker.seen_at < func.clock_timestamp() - WORKERS_KEPT))

    async def _remove_some(self, state: str, kept: timedelta) -> int:
        async with self._database.unit_of_work(PLATFORM) as session:
            old = (
                select(Job.id)
                .where(Job.state == state, Job.finished_at < func.clock_timestamp() - kept)
                .limit(_AT_ONCE)
                .with_for_update(skip_locked=True)
            )
            removed = await session.scalars(delete(Job).where(Job.id.in_(old)).returning(Job.id))
            return len(removed.all())
