"""How the queues and the workers stand, over all tenants: figures, and nothing of anybody's work."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.models import Job, JobWorker
from bwenge.kit.jobs.presence import ALIVE
from bwenge.kit.jobs.queue import due
from bwenge.kit.jobs.queues import QUEUES


@dataclass(frozen=True, slots=True)
class WorkerStanding:
    name: str
    queues: Sequence[str]
    alive: bool
    busy: bool


@dataclass(frozen=True, slots=True)
class QueueStanding:
    """`depth` is how many jobs are due and nobody's; `oldest_seconds` is how long the first of them has waited."""

    name: str
    depth: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class JobStanding:
    workers: Sequence[WorkerStanding]
    queues: Sequence[QueueStanding]


class JobOverview:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self) -> JobStanding:
        """Every queue, and every worker that has not been forgotten yet."""
        now = func.clock_timestamp()
        waited = func.extract("epoch", now - func.min(Job.run_after))
        async with self._database.unit_of_work(PLATFORM) as session:
            workers = await session.execute(
                select(JobWorker.name, JobWorker.queues, JobWorker.running, JobWorker.seen_at > now - ALIVE).order_by(
                    JobWorker.name
                )
            )
            depths = await session.execute(select(Job.queue, func.count(), waited).where(due()).group_by(Job.queue))
        waiting = {name: (depth, float(seconds)) for name, depth, seconds in depths}
        return JobStanding(
            workers=[
                WorkerStanding(name, queues, alive, busy=alive and running > 0)
                for name, queues, running, alive in workers
            ],
            queues=[
                QueueStanding(name, depth, None if seconds is None else round(seconds, 1))
                for name in QUEUES
                for depth, seconds in [waiting.get(name, (0, None))]
            ],
        )
