"""A worker of the split topology: Celery wakes its children, and each does one job at a time with means of its own.

The main process serves nobody and knows no document. Beside it runs a companion (`apps.companion`), which publishes
jobs and says that the worker lives: a process of its own, for what is forked beside a thread may inherit its locks.
"""

import asyncio
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog
from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from bwenge.apps.broker import RUN_JOB, CeleryBroker, celery_app, queue_name
from bwenge.apps.companion import Companion, open_features, redis_url_of
from bwenge.apps.resources import await_schema
from bwenge.apps.scratch import Scratch
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.kit.db import SINGLE, PoolSizes
from bwenge.kit.jobs.executor import LEASE, JobExecutor
from bwenge.kit.jobs.presence import WorkerPresence
from bwenge.kit.jobs.queues import QUEUES
from bwenge.kit.jobs.relay import AGAIN_AFTER

_log = structlog.get_logger(__name__)

STOP_SECONDS: Final = 15.0
"""How long running jobs may take to end after the signal; then they are given back."""
JOBS_PER_CHILD: Final = 200
"""After so many, a child is replaced: whatever a library leaks does not add up."""
CHILD_POOLS: Final = PoolSizes(app=2, platform=2, steward=1)
"""One for the work and one for its progress, or one for the end and one for the heartbeat."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The figures that a test hastens."""

    lease: timedelta = LEASE
    again_after: timedelta = AGAIN_AFTER
    stop_seconds: float = STOP_SECONDS


class StopSignal:
    """Seen by all children, whenever they were forked: a pipe that can be read once the worker has to stop."""

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()

    def give_after(self, seconds: float) -> None:
        timer = threading.Timer(seconds, os.write, (self._writer, b"stop"))
        timer.daemon = True
        timer.start()


class WorkerChild:
    """What one child works with, opened after the fork: a loop, connections, and a scratch folder."""

    def __init__(self, settings: Settings, secrets: Secrets, *, name: str, stop: StopSignal, timing: Timing) -> None:
        self.pid = os.getpid()
        self._name, self._stop = name, stop
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        scratch = self._stack.enter_context(Scratch.claim(settings.data_dir / "work"))
        self._executor = self._runner.run(self._open(settings, secrets, work_dir=scratch.path, lease=timing.lease))

    async def _open(self, settings: Settings, secrets: Secrets, *, work_dir: Path, lease: timedelta) -> JobExecutor:
        opened = open_features(settings, secrets, pools=CHILD_POOLS, work_dir=work_dir)
        platform = await self._stack.enter_async_context(opened)
        return JobExecutor(platform.resources.database, platform.jobs.kinds, lease=lease, worker=self._name)

    def run(self, job_id: UUID) -> None:
        self._runner.run(self._until_stopped(job_id))

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _until_stopped(self, job_id: UUID) -> None:
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(self._executor.run(job_id))

        def stop() -> None:
            # Once, whether by the pipe, which stays readable, or by the signal: what removes the reader is the first.
            if loop.remove_reader(self._stop.descriptor):
                work.cancel()

        loop.add_reader(self._stop.descriptor, stop)
        loop.add_signal_handler(signal.SIGTERM, stop)
        try:
            await asyncio.wait([work])
        finally:
            loop.remove_reader(self._stop.descriptor)
            loop.remove_signal_handler(signal.SIGTERM)
        if not work.cancelled() and (error := work.exception()) is not None:
            # The row is as it was, or its lease ends: the job is published again.
            _log.error("job_bookkeeping_failed", job_id=str(job_id), exc_info=error)


class WorkerChildren:
    """The present process's child state, made when its first job comes, so never before the fork."""

    def __init__(self, settings: Settings, secrets: Secrets, *, name: str, stop: StopSignal, timing: Timing) -> None:
        self._settings, self._secrets, self._name = settings, secrets, name
        self._stop, self._timing = stop, timing
        self._child: WorkerChild | None = None

    def run_job(self, job_id: str) -> None:
        if self._child is None or self._child.pid != os.getpid():
            self._child = WorkerChild(
                self._settings, self._secrets, name=self._name, stop=self._stop, timing=self._timing
            )
        self._child.run(UUID(job_id))

    def close(self) -> None:
        if self._child is not None and self._child.pid == os.getpid():
            self._child.close()
            self._child = None


def run_worker(
    settings: Settings,
    secrets: Secrets,
    *,
    queues: Sequence[str] = tuple(QUEUES),
    concurrency: int | None = None,
    timing: Timing | None = None,
) -> int:
    """Do the jobs of these queues, as many at once as `concurrency` (by default, as there are processors).

    Returns the exit code, after SIGTERM or SIGINT: running jobs end or are given back. A second SIGINT does not wait.
    Where the companion has died the worker ends too, with a code other than 0.

    Raises:
        SchemaTooOld: PostgreSQL does not answer, or nobody migrated it in time.
    """
    timing = timing or Timing()
    asyncio.run(_prepare(settings, secrets))
    app = celery_app(redis_url_of(settings))
    presence = WorkerPresence.new(queues)
    companion = Companion(
        settings,
        secrets,
        CeleryBroker(app, redis_url_of(settings)),
        again_after=timing.again_after,
        presence=presence,
    ).fork()
    stop = StopSignal()
    children = WorkerChildren(settings, secrets, name=presence.name, stop=stop, timing=timing)
    app.task(name=RUN_JOB)(children.run_job)
    _connect(stop, children, stop_seconds=timing.stop_seconds)
    try:
        code = _serve(app, presence, concurrency=concurrency)
    finally:
        has_lived = companion.stop()
    return code if has_lived else code or 1


async def _prepare(settings: Settings, secrets: Secrets) -> None:
    """Close what a restored backup brought back, before any job of it is done."""
    async with open_features(settings, secrets, pools=SINGLE) as platform:
        await await_schema(platform.resources.database)
        await platform.custody.erasure.replay()


def _connect(stop: StopSignal, children: WorkerChildren, *, stop_seconds: float) -> None:
    """Celery's moments. It keeps weak references by default, and nothing else holds these functions."""

    def on_stopping(**_: Any) -> None:
        stop.give_after(stop_seconds)

    def on_child_end(**_: Any) -> None:
        children.close()

    signals.worker_shutting_down.connect(on_stopping, weak=False)
    signals.worker_process_shutdown.connect(on_child_end, weak=False)


def _serve(app: Celery, presence: WorkerPresence, *, concurrency: int | None) -> int:
    # It warns of root for the sake of messages that can run code; ours are JSON, and hold an id.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # And, each time that Redis is away, of a default that a later version may have.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    worker = app.Worker(
        hostname=f"bwenge@{presence.name}",
        queues=[queue_name(name) for name in presence.queues],
        concurrency=concurrency or os.cpu_count() or 1,
        pool_cls="prefork",
        max_tasks_per_child=JOBS_PER_CHILD,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
