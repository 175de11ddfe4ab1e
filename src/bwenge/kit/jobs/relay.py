"""Telling workers beyond this process, through a broker, that jobs may run.

The rows stay the truth and a message carries an id alone. So a message that is lost costs time and nothing else: rows
that stay unclaimed are published again, but only as many as the broker has lost, or a long queue would fill it. One
that comes twice, or too late, finds nothing to claim. A row is marked before it is sent, in a transaction of its own:
a worker that is woken must not find it locked.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select, update

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.executor import JobExecutor
from bwenge.kit.jobs.listening import POLL_SECONDS, listen, wait_for_wake
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import blocked, due
from bwenge.kit.jobs.queues import QUEUES

_log = structlog.get_logger(__name__)

AGAIN_AFTER: Final = timedelta(seconds=30)
BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker is sent."""

    job_id: UUID
    queue: str


class Broker(Protocol):
    """Carries messages to workers. Its methods block, and raise what they like while it is away."""

    def publish(self, messages: Sequence[Message]) -> None: ...

    def waiting(self, queue: str) -> int:
        """How many messages of the queue no worker has taken yet."""
        ...


class JobRelay:
    """Publishes jobs as they become due. Any number of relays may run: each row is marked by one of them."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        executor: JobExecutor,
        *,
        again_after: timedelta = AGAIN_AFTER,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._broker = broker
        self._executor = executor
        self._again_after = again_after
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._is_away = False

    async def run(self) -> None:
        """Publish whatever is due, and bury what is exhausted, until cancelled."""
        listening = asyncio.create_task(listen(self._database, self._wake, again_after=self._poll_seconds))
        try:
            while True:
                self._wake.clear()
                await self._turn()
                await wait_for_wake(self._wake, at_most=self._poll_seconds)
        finally:
            listening.cancel()

    async def _turn(self) -> None:
        try:
            while await self._executor.bury_exhausted(QUEUES):
                pass
            while await self.publish_due() == BATCH:
                pass
        except Exception:  # noqa: BLE001  # PostgreSQL may be away; the relay outlives it
            _log.warning("job_relay_failed", exc_info=True)

    async def publish_due(self) -> int:
        """Publish one batch, and what of earlier ones was lost. Returns how many were new and have been sent."""
        if self._is_away and not await self._has_come_back():
            return 0
        fresh = await self._mark(_is_unpublished(), limit=BATCH)
        if not await self._send(fresh):
            return 0
        for queue, count in (await self._overdue()).items():
            if not await self._send(await self._lost(queue, count)):
                return 0
        return len(fresh)

    async def _overdue(self) -> dict[str, int]:
        """By queue, how many jobs were published long ago and are nobody's."""
        async with self._database.unit_of_work(PLATFORM) as session:
            rows = await session.execute(
                select(Job.queue, func.count().label("jobs")).where(self._is_overdue(), ~blocked()).group_by(Job.queue)
            )
            return {row.queue: row.jobs for row in rows}

    async def _lost(self, queue: str, overdue: int) -> Sequence[Message]:
        """Jobs to publish again, marked: as many as are due and have no message that waits for them."""
        try:
            waiting = await asyncio.to_thread(self._broker.waiting, queue)
        except Exception:  # noqa: BLE001  # each client library has errors of its own
            self._note_away()
            return []
        lost = min(overdue - waiting, BATCH)
        return await self._mark(and_(self._is_overdue(), Job.queue == queue), limit=lost) if lost > 0 else []

    async def _mark(self, condition: ColumnElement[bool], *, limit: int) -> Sequence[Message]:
        kinds = [kind.name for kind in self._executor.kinds]
        chosen = (
            select(Job.id)
            .where(condition, Job.queue.in_(QUEUES), Job.kind.in_(kinds), ~blocked())
            .order_by(Job.run_after, Job.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            rows = await session.execute(
                update(Job)
                .where(Job.id.in_(chosen))
                .values(published_at=func.clock_timestamp())
                .returning(Job.id, Job.queue)
                .execution_options(synchronize_session=False)
            )
            return [Message(job_id, queue) for job_id, queue in rows]

    async def _send(self, messages: Sequence[Message]) -> bool:
        """False where the broker would not have them; it may answer questions all the same."""
        if not messages:
            return True
        try:
            await asyncio.to_thread(self._broker.publish, messages)
        except Exception:  # noqa: BLE001  # each client library has errors of its own
            self._note_away()
            await self._unmark([message.job_id for message in messages])
            return False
        return True

    async def _unmark(self, job_ids: Collection[UUID]) -> None:
        """Those that were sent before the broker went away may be sent twice."""
        async with self._database.unit_of_work(PLATFORM) as session:
            await session.execute(
                update(Job).where(Job.id.in_(job_ids), Job.state.in_(("queued", "running"))).values(published_at=None)
            )

    def _note_away(self) -> None:
        if not self._is_away:
            _log.warning("job_broker_away", exc_info=True)
        self._is_away = True

    async def _has_come_back(self) -> bool:
        """Asked before rows are marked, which would all have to be unmarked again."""
        try:
            await asyncio.to_thread(self._broker.waiting, next(iter(QUEUES)))
        except Exception:  # noqa: BLE001  # as above
            return False
        self._is_away = False
        _log.info("job_broker_back")
        return True

    def _is_overdue(self) -> ColumnElement[bool]:
        overdue: ColumnElement[bool] = and_(
            due(), Job.attempts < Job.max_attempts, Job.published_at < func.clock_timestamp() - self._again_after
        )
        return overdue


def _is_unpublished() -> ColumnElement[bool]:
    """Due, and never published, or published before the lease that has ended: its worker took that message with it."""
    was_lost: Any = and_(Job.state == "running", Job.published_at <= Job.lease_until)
    unpublished: ColumnElement[bool] = and_(
        due(), Job.attempts < Job.max_attempts, or_(Job.published_at.is_(None), was_lost)
    )
    return unpublished
