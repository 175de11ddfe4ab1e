"""Which workers there are: each says so of itself every few seconds, and is forgotten when it stops."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.models import Job, JobWorker

_log = structlog.get_logger(__name__)

ANNOUNCE_SECONDS: Final = 5.0
ALIVE: Final = timedelta(seconds=15)
"""A worker that was not heard of for longer is taken for dead."""

_NAME_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class WorkerPresence:
    """A worker as others see it; its name is drawn anew by each process, and tells nothing of the machine."""

    name: str
    queues: tuple[str, ...]

    @classmethod
    def new(cls, queues: Iterable[str]) -> "WorkerPresence":
        return cls(secrets.token_hex(_NAME_BYTES), tuple(queues))


async def announce(database: Database, presence: WorkerPresence, *, running: int) -> None:
    """Say that the worker lives, and how many jobs it is doing."""
    row = {"queues": list(presence.queues), "running": running, "seen_at": func.clock_timestamp()}
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            insert(JobWorker)
            .values(name=presence.name, **row)
            .on_conflict_do_update(index_elements=[JobWorker.name], set_=row)
        )


async def count_running(database: Database, presence: WorkerPresence) -> int:
    """How many jobs are claimed in the worker's name, by whichever of its processes."""
    held = (Job.state == "running", Job.worker == presence.name, Job.lease_until >= func.clock_timestamp())
    async with database.unit_of_work(PLATFORM) as session:
        return await session.scalar(select(func.count()).where(*held)) or 0


async def leave(database: Database, presence: WorkerPresence) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(delete(JobWorker).where(JobWorker.name == presence.name))


async def keep_present(
    database: Database,
    presence: WorkerPresence,
    *,
    running: Callable[[], Awaitable[int]],
    every: float = ANNOUNCE_SECONDS,
) -> None:
    """Announce the worker until cancelled, then forget it."""
    try:
        while True:
            try:
                await announce(database, presence, running=await running())
            except Exception:  # noqa: BLE001  # PostgreSQL may be away; the work itself finds out by its own writes
                _log.warning("worker_not_announced", exc_info=True)
            await asyncio.sleep(every)
    finally:
        # Where PostgreSQL is gone too, the sweep of a later day forgets it.
        with contextlib.suppress(Exception):
            await leave(database, presence)
