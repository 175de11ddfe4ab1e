"""The in-process runner: claims jobs from PostgreSQL, runs them with bounded concurrency, and never loses one.

A claim is a lease that a heartbeat extends. A worker that dies stops beating, and its job is claimed again; a job whose
worker dies on its last attempt is buried. A stopping worker gives its unfinished jobs back.
"""

import asyncio
import contextlib
import os
import socket
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar, Final

import psycopg
import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database, savepoint
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.queue import Claimant, ClaimedJob
from bwenge.kit.telemetry import bind_request_id

_log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=15)
POLL_SECONDS: Final = 1.0
WORKER_LOST: Final = "worker_lost"
SLOTS: Final[Mapping[str, int]] = MappingProxyType({queue.DEFAULT: 2, queue.MAINTENANCE: 1})
"""Jobs that run at once, by queue. Each may ask for a connection of either pool while the claims ask for one more."""

OUTCOMES: Final = Counter("bwenge_jobs_total", "Jobs by kind and outcome of an attempt", ["kind", "outcome"])
RUNNING: Final = Gauge("bwenge_jobs_running", "Jobs that this process is running")


class AttemptFailed(Exception):
    """A failure that its job's owner knows by a code of its own, where the attempt was the last."""

    code: ClassVar[str] = "internal"


Handler = Callable[[ClaimedJob], Awaitable[None]]
BurialRite = Callable[[AsyncSession, ClaimedJob, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """How to do one kind of job.

    Attributes:
        handle: Does the work; opens its own units of work and is idempotent. An exception is a failed attempt, of
            which `AttemptFailed` can tell the code.
        on_dead: Notes the job's death, with an error code, in the transaction that buries it.
    """

    name: str
    handle: Handler
    on_dead: BurialRite | None = None


class JobRunner:
    """Runs jobs of the given kinds, as many at a time of each queue as it has `slots`."""

    def __init__(
        self,
        database: Database,
        kinds: Iterable[JobKind],
        *,
        slots: Mapping[str, int] = SLOTS,
        lease: timedelta = LEASE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._kinds = {kind.name: kind for kind in kinds}
        self._slots = dict(slots)
        self._lease = lease
        self._poll_seconds = poll_seconds
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: dict[asyncio.Task[None], ClaimedJob] = {}
        self._loops: list[asyncio.Task[None]] = []

    @property
    def kinds(self) -> Collection[JobKind]:
        return self._kinds.values()

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
        self._loops = [asyncio.create_task(self._claim_loop()), asyncio.create_task(self._listen_loop())]

    async def ping(self) -> None:
        """Raise when the runner does not claim any more."""
        if self._stopping or not self._loops or self._loops[0].done():
            raise RuntimeError("the job runner does not run")

    async def stop(self, *, grace_seconds: float = 10.0) -> None:
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
                await self._bury_exhausted()
            except Exception:  # noqa: BLE001  # PostgreSQL may be away; the loop outlives it
                _log.warning("job_claim_failed", exc_info=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()

    def _free_queues(self) -> list[str]:
        busy = Tally(job.queue for job in self._running.values())
        return [name for name, slots in self._slots.items() if busy[name] < slots]

    def _claimant(self) -> Claimant:
        return Claimant(self._worker, kinds=self._kinds, held=[job.id for job in self._running.values()])

    async def _claim_one(self, queues: list[str]) -> bool:
        if self._stopping:
            return False
        async with self._database.unit_of_work(PLATFORM) as session:
            job = await queue.claim(session, self._claimant(), queues=queues, lease=self._lease)
        if job is None:
            return False
        task = asyncio.create_task(self._run(job), name=f"job-{job.kind}-{job.id}")
        self._running[task] = job
        RUNNING.inc()
        task.add_done_callback(self._on_ended)
        return True

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        RUNNING.dec()
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("job_bookkeeping_failed", exc_info=error)

    async def _run(self, job: ClaimedJob) -> None:
        kind = self._kinds[job.kind]
        with bind_request_id(f"job-{job.id}"):
            heartbeat = asyncio.create_task(self._beat(job, asyncio.current_task()))
            try:
                await kind.handle(job)
            except asyncio.CancelledError:
                OUTCOMES.labels(job.kind, "given_back").inc()
                async with self._database.unit_of_work(PLATFORM) as session:
                    await queue.give_back(session, job)
                raise
            except Exception as error:  # noqa: BLE001  # any failure of the work is a failed attempt, kept with the job
                await self._on_failure(kind, job, error)
            else:
                OUTCOMES.labels(job.kind, "done").inc()
                async with self._database.unit_of_work(PLATFORM) as session:
                    await queue.finish(session, job)
            finally:
                heartbeat.cancel()

    async def _on_failure(self, kind: JobKind, job: ClaimedJob, error: Exception) -> None:
        _log.warning("job_attempt_failed", kind=job.kind, job_id=str(job.id), attempt=job.attempt, exc_info=error)
        reason = type(error).__name__
        if job.attempt >= job.max_attempts:
            code = error.code if isinstance(error, AttemptFailed) else AttemptFailed.code
            await self._bury(kind, job, error=reason, code=code)
            return
        OUTCOMES.labels(job.kind, "retried").inc()
        async with self._database.unit_of_work(PLATFORM) as session:
            await queue.retry_later(session, job, error=reason)

    async def _bury_exhausted(self) -> None:
        while not self._stopping:
            async with self._database.unit_of_work(PLATFORM) as session:
                job = await queue.exhausted(session, self._claimant(), queues=self._slots)
                if job is None:
                    return
                await self._bury_in(session, self._kinds[job.kind], job, error=WORKER_LOST, code=WORKER_LOST)

    async def _bury(self, kind: JobKind, job: ClaimedJob, *, error: str, code: str) -> None:
        async with self._database.unit_of_work(PLATFORM) as session:
            await self._bury_in(session, kind, job, error=error, code=code)

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

    async def _listen_loop(self) -> None:
        """Wake on NOTIFY; where that connection is lost, the poll alone serves until it is back."""
        while not self._stopping:
            try:
                async with await psycopg.AsyncConnection.connect(
                    conninfo_of(self._database.urls.platform), autocommit=True
                ) as connection:
                    await connection.execute(f"LISTEN {queue.CHANNEL}")
                    self._wake.set()
                    async for _notification in connection.notifies():
                        self._wake.set()
            except psycopg.Error:
                _log.warning("job_listen_failed", exc_info=True)
            await asyncio.sleep(self._poll_seconds)


def conninfo_of(url: URL) -> str:
    """An SQLAlchemy URL in the form of libpq."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
