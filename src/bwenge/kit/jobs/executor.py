"""Running a claimed job, and never losing it: whoever claims, and however they were woken.

A claim is a lease that a heartbeat extends. A worker that dies stops beating, and its job is claimed again; a job whose
worker dies on its last attempt is buried. Work that is cancelled, because its worker stops, is given back.
"""

import asyncio
import os
import socket
import time
from collections.abc import Collection, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database, savepoint
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.kinds import AttemptFailed, BurialRite, JobKind, TimedOut
from bwenge.kit.jobs.queue import Claimant, ClaimedJob
from bwenge.kit.jobs.queues import QUEUES, QueueRule
from bwenge.kit.telemetry import bind_request_id

_log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=15)
WORKER_LOST: Final = "worker_lost"

OUTCOMES: Final = Counter("bwenge_jobs_total", "Jobs by kind and outcome of an attempt", ["kind", "outcome"])
RUNNING: Final = Gauge("bwenge_jobs_running", "Jobs that this process is running")


class JobExecutor:
    """Does jobs of the given kinds, each within the limit of its queue."""

    def __init__(
        self,
        database: Database,
        kinds: Iterable[JobKind],
        *,
        rules: Mapping[str, QueueRule] = QUEUES,
        lease: timedelta = LEASE,
        worker: str | None = None,
    ) -> None:
        self._database = database
        self._kinds = {kind.name: kind for kind in kinds}
        self._rules = rules
        self._lease = lease
        self._worker = worker or f"{socket.gethostname()}:{os.getpid()}"

    @property
    def kinds(self) -> Collection[JobKind]:
        return self._kinds.values()

    async def claim(
        self, queues: Collection[str], *, held: Collection[UUID] = (), job_id: UUID | None = None
    ) -> ClaimedJob | None:
        """The oldest job of these queues that may run now, or that one if it may."""
        async with self._database.unit_of_work(PLATFORM) as session:
            return await queue.claim(session, self._claimant(held), queues=queues, lease=self._lease, job_id=job_id)

    async def run(self, job_id: UUID) -> bool:
        """Claim that job and do it. Does nothing, and returns False, where it may not run now or is another's."""
        job = await self.claim(self._rules, job_id=job_id)
        if job is None:
            return False
        await self.perform(job)
        return True

    async def perform(self, job: ClaimedJob) -> None:
        """Do a claimed job to its end: done, to be tried again, or dead. Cancelled, it is given back."""
        kind, began = self._kinds[job.kind], time.monotonic()
        with bind_request_id(f"job-{job.id}"), RUNNING.track_inprogress():
            heartbeat = asyncio.create_task(self._beat(job, asyncio.current_task()))
            try:
                await self._within_limit(kind, job)
            except asyncio.CancelledError:
                OUTCOMES.labels(job.kind, "given_back").inc()
                await _to_its_end(self._give_back(job), after=heartbeat)
                raise
            except Exception as error:  # noqa: BLE001  # any failure of the work is a failed attempt, kept with the job
                await _to_its_end(self._on_failure(kind, job, error), after=heartbeat)
            else:
                OUTCOMES.labels(job.kind, "done").inc()
                await _to_its_end(self._finish(job), after=heartbeat)
                seconds = round(time.monotonic() - began, 1)
                _log.info("job_done", kind=job.kind, job_id=str(job.id), attempt=job.attempt, seconds=seconds)
            finally:
                heartbeat.cancel()

    async def _finish(self, job: ClaimedJob) -> None:
        async with self._database.unit_of_work(PLATFORM) as session:
            await queue.finish(session, job)

    async def _give_back(self, job: ClaimedJob) -> None:
        async with self._database.unit_of_work(PLATFORM) as session:
            await queue.give_back(session, job)

    async def bury_exhausted(self, queues: Collection[str], *, held: Collection[UUID] = ()) -> bool:
        """Bury one job whose last attempt died with its worker. Returns whether there was one."""
        async with self._database.unit_of_work(PLATFORM) as session:
            job = await queue.exhausted(session, self._claimant(held), queues=queues)
            if job is None:
                return False
            await self._bury_in(session, self._kinds[job.kind], job, error=WORKER_LOST, code=WORKER_LOST)
            return True

    async def _within_limit(self, kind: JobKind, job: ClaimedJob) -> None:
        limit = asyncio.timeout(self._rules[job.queue].limit.total_seconds())
        try:
            async with limit:
                await kind.handle(job)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimedOut from error

    def _claimant(self, held: Collection[UUID]) -> Claimant:
        return Claimant(self._worker, kinds=self._kinds, held=held)

    async def _on_failure(self, kind: JobKind, job: ClaimedJob, error: Exception) -> None:
        _log.warning("job_attempt_failed", kind=job.kind, job_id=str(job.id), attempt=job.attempt, exc_info=error)
        reason = type(error).__name__
        if job.attempt >= job.max_attempts:
            code = error.code if isinstance(error, AttemptFailed) else AttemptFailed.code
            async with self._database.unit_of_work(PLATFORM) as session:
                await self._bury_in(session, kind, job, error=reason, code=code)
            return
        OUTCOMES.labels(job.kind, "retried").inc()
        async with self._database.unit_of_work(PLATFORM) as session:
            await queue.retry_later(session, job, error=reason)

    async def _bury_in(self, session: AsyncSession, kind: JobKind, job: ClaimedJob, *, error: str, code: str) -> None:
        if not await queue.bury(session, job, error=error, code=code):
            return
        OUTCOMES.labels(job.kind, "dead").inc()
        _log.error("job_dead", kind=job.kind, job_id=str(job.id), attempts=job.attempt, error=error)
        if kind.on_dead is not None:
            await self._tell_owner(session, kind.on_dead, job, code=code)

    async def _tell_owner(self, session: AsyncSession, rite: BurialRite, job: ClaimedJob, *, code: str) -> None:
        """A job is buried also where its owner cannot be told: it would be dug out for ever, and the next with it."""
        try:
            async with savepoint(session):
                await rite(session, job, code)
        except Exception:  # noqa: BLE001  # whatever the owner raises, the burial stands
            _log.exception("job_burial_rite_failed", kind=job.kind, job_id=str(job.id))

    async def _beat(self, job: ClaimedJob, work: asyncio.Task[None] | None) -> None:
        """Extend the lease while the work goes on; a lost claim ends the work, for another worker has it."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                async with self._database.unit_of_work(PLATFORM) as session:
                    held = await queue.extend_lease(session, job, lease=self._lease)
            except Exception:  # noqa: BLE001  # PostgreSQL may be away for less than the lease
                _log.warning("job_heartbeat_failed", job_id=str(job.id), exc_info=True)
                continue
            if not held and work is not None:
                _log.warning("job_claim_lost", kind=job.kind, job_id=str(job.id))
                work.cancel()
                return


async def _to_its_end(settling: Coroutine[Any, Any, None], *, after: asyncio.Task[None]) -> None:
    """Write how an attempt ended, once its heartbeat has ceased. A cancel meanwhile takes effect when it is written."""

    async def settle() -> None:
        after.cancel()
        await asyncio.wait([after])
        await settling

    task = asyncio.create_task(settle())
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError
