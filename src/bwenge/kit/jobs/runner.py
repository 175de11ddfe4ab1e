"""The in-process runner: claims jobs from PostgreSQL as they become due, and runs as many at a time as it has slots."""

import asyncio
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.executor import LEASE, JobExecutor
from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.jobs.listening import POLL_SECONDS, listen, wait_for_wake
from bwenge.kit.jobs.presence import WorkerPresence, keep_present
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.jobs.queues import QUEUES, QueueRule
from bwenge.kit.jobs.schedule import Recurring, keep_schedule

_log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 10.0


class JobRunner:
    """Runs jobs of the given kinds, as many at a time of each queue as its rule has slots, and asks for what recurs."""

    def __init__(
        self,
        database: Database,
        kinds: Iterable[JobKind],
        *,
        rules: Mapping[str, QueueRule] = QUEUES,
        schedule: Collection[Recurring] = (),
        lease: timedelta = LEASE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._presence = WorkerPresence.new(rules)
        self._executor = JobExecutor(database, kinds, rules=rules, lease=lease, worker=self._presence.name)
        self._rules = rules
        self._schedule = schedule
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: dict[asyncio.Task[None], ClaimedJob] = {}
        self._loops: list[asyncio.Task[None]] = []

    @property
    def kinds(self) -> Collection[JobKind]:
        return self._executor.kinds

    async def start(self, *, alone: bool = False) -> None:
        """Begin to claim.

        Args:
            alone: The caller knows that no other worker lives: take back at once what a killed predecessor was
                running, instead of waiting for its leases to end.
        """
        if alone:
            async with self._database.unit_of_work(PLATFORM) as session:
                recovered = await queue.release_all(session)
            if recovered:
                _log.info("jobs_recovered", count=recovered)
        self._loops = [
            asyncio.create_task(loop)
            for loop in (
                self._claim_loop(),
                listen(self._database, self._wake, again_after=self._poll_seconds),
                keep_present(self._database, self._presence, running=self._count_running),
                keep_schedule(self._database, self._schedule),
            )
        ]

    async def ping(self) -> None:
        """Raise when the runner does not claim any more."""
        if self._stopping or not self._loops or self._loops[0].done():
            raise RuntimeError("the job runner does not run")

    async def stop(self, *, grace_seconds: float = STOP_SECONDS) -> None:
        """Claim nothing more; wait for running jobs, then cancel and give back the rest."""
        self._stopping = True
        self._wake.set()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_seconds)
        for task in [*self._running, *self._loops]:
            task.cancel()
        await asyncio.gather(*self._running, *self._loops, return_exceptions=True)

    async def _claim_loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                while (queues := self._free_queues()) and await self._claim_one(queues):
                    pass
                while await self._bury_one():
                    pass
            except Exception:  # noqa: BLE001  # PostgreSQL may be away; the loop outlives it
                _log.warning("job_claim_failed", exc_info=True)
            await wait_for_wake(self._wake, at_most=self._poll_seconds)

    def _free_queues(self) -> list[str]:
        busy = Tally(job.queue for job in self._running.values())
        return [name for name, rule in self._rules.items() if busy[name] < rule.slots]

    def _held(self) -> list[UUID]:
        return [job.id for job in self._running.values()]

    async def _claim_one(self, queues: list[str]) -> bool:
        if self._stopping:
            return False
        job = await self._executor.claim(queues, held=self._held())
        if job is None:
            return False
        task = asyncio.create_task(self._executor.perform(job), name=f"job-{job.kind}-{job.id}")
        self._running[task] = job
        task.add_done_callback(self._on_ended)
        return True

    async def _bury_one(self) -> bool:
        return not self._stopping and await self._executor.bury_exhausted(self._rules, held=self._held())

    async def _count_running(self) -> int:
        return len(self._running)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("job_bookkeeping_failed", exc_info=error)
