"""Putting jobs in the queue and taking them out. What is told of them to whoever asked for them: `reports`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CursorResult, and_, delete, func, or_, select, text, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queues import MAINTENANCE

CHANNEL: Final = "bwenge_jobs"
"""PostgreSQL's NOTIFY channel, on which a job that may run wakes the workers; the payload is the queue."""

BACKOFF_LIMIT: Final = timedelta(minutes=5)
_LAST_DOUBLING: Final = 9
"""2 to this power in seconds is above the limit; a job may have many more attempts than any time has digits for."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work to be done after the present transaction commits.

    `dedupe_key` makes a second request for work that is still to be done a no-op; jobs with the same `ordering_key`
    run one after the other, in the order in which they were asked for. `requested_by` is who may ask how it goes, and
    `requested_as` the role in which a member asked for it.
    """

    kind: str
    payload: Mapping[str, Any]
    org_id: UUID | None = None
    queue: str = MAINTENANCE
    dedupe_key: str | None = None
    ordering_key: str | None = None
    delay: timedelta = timedelta(0)
    max_attempts: int = 5
    requested_by: UUID | None = None
    requested_as: Role | None = None


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that a worker holds; `attempt` counts from 1 and, with the id, names this claim and no later one."""

    id: UUID
    kind: str
    org_id: UUID | None
    attempt: int
    max_attempts: int
    payload: Mapping[str, Any] = field(repr=False)
    queue: str = MAINTENANCE
    ordering_key: str | None = None


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who asks for jobs.

    Attributes:
        kinds: What it knows how to do; a job of another kind waits for a worker that does.
        held: The ids of jobs that it is running. Their leases may have ended by the wall clock, as after a suspended
            machine wakes, but it holds them still.
    """

    worker: str
    kinds: Collection[str]
    held: Collection[UUID] = ()


async def enqueue(session: AsyncSession, job: NewJob) -> UUID | None:
    """Write the job in the caller's transaction. Returns its id, or None where the same work already waits."""
    job_id = new_id()
    # Not RETURNING: a tenant's session may not see the row that stands in the way.
    result = await session.execute(
        insert(Job)
        .values(
            id=job_id,
            org_id=job.org_id,
            kind=job.kind,
            queue=job.queue,
            payload=dict(job.payload),
            max_attempts=job.max_attempts,
            dedupe_key=job.dedupe_key,
            ordering_key=job.ordering_key,
            requested_by=job.requested_by,
            requested_as=job.requested_as,
            run_after=func.clock_timestamp() + job.delay,
        )
        .on_conflict_do_nothing(index_elements=[Job.dedupe_key], index_where=text("state IN ('queued', 'running')")),
        # Of an INSERT, SQLAlchemy keeps no count by itself.
        execution_options={"preserve_rowcount": True},
    )
    if _touched(result) == 0:
        return None
    await _notify(session, job.queue)
    return job_id


async def find_unfinished(session: AsyncSession, dedupe_key: str) -> UUID | None:
    """The job for which `enqueue` has written no second one."""
    return await session.scalar(
        select(Job.id).where(Job.dedupe_key == dedupe_key, Job.state.in_(("queued", "running")))
    )


async def drop_jobs_of(session: AsyncSession, org_id: UUID) -> None:
    """Forget all work of a tenant; who is doing some of it learns at the next heartbeat that it is no more."""
    await session.execute(delete(Job).where(Job.org_id == org_id))


async def drop(session: AsyncSession, job: ClaimedJob) -> None:
    """Forget a job instead of finishing it, where its row says what nobody may know any more."""
    await session.execute(delete(Job).where(_still_claimed(job)))


async def claim(
    session: AsyncSession,
    claimant: Claimant,
    *,
    queues: Collection[str],
    lease: timedelta,
    job_id: UUID | None = None,
) -> ClaimedJob | None:
    """Take the oldest job that may run now, or that one alone: queued and due, or running under a lease that ended."""
    may_be_it = true() if job_id is None else Job.id == job_id
    candidate = (
        select(Job.id)
        .where(may_be_it, _may_take(claimant, queues), Job.attempts < Job.max_attempts, ~blocked(claimant.held))
        .order_by(Job.run_after, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = (
        await session.execute(
            update(Job)
            .where(Job.id == candidate)
            .values(
                state="running",
                attempts=Job.attempts + 1,
                worker=claimant.worker,
                lease_until=func.clock_timestamp() + lease,
            )
            .returning(Job)
        )
    ).scalar_one_or_none()
    return None if row is None else _claimed(row)


async def exhausted(session: AsyncSession, claimant: Claimant, *, queues: Collection[str]) -> ClaimedJob | None:
    """A job whose last allowed attempt died with its worker; it is locked for the caller to bury."""
    row = (
        await session.execute(
            select(Job)
            .where(_may_take(claimant, queues), Job.attempts >= Job.max_attempts)
            .order_by(Job.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
    ).scalar_one_or_none()
    return None if row is None else _claimed(row)


def _claimed(row: Job) -> ClaimedJob:
    return ClaimedJob(
        id=row.id,
        kind=row.kind,
        org_id=row.org_id,
        attempt=row.attempts,
        max_attempts=row.max_attempts,
        payload=row.payload,
        queue=row.queue,
        ordering_key=row.ordering_key,
    )


async def extend_lease(session: AsyncSession, job: ClaimedJob, *, lease: timedelta) -> bool:
    """Keep the claim. False when it has been lost to another worker."""
    result = await session.execute(
        update(Job).where(_still_claimed(job)).values(lease_until=func.clock_timestamp() + lease)
    )
    return _touched(result) == 1


async def finish(session: AsyncSession, job: ClaimedJob) -> bool:
    """Mark the job done, and wake whoever waits for the next of its ordering key."""
    result = await session.execute(
        update(Job)
        .where(_still_claimed(job))
        .values(state="done", progress=1, lease_until=None, finished_at=func.clock_timestamp(), last_error=None)
    )
    await _wake_next(session, job)
    return _touched(result) == 1


async def retry_later(session: AsyncSession, job: ClaimedJob, *, error: str) -> None:
    """Give the job back, to run again after 2, 4, 8 … seconds."""
    delay = min(timedelta(seconds=2 ** min(job.attempt, _LAST_DOUBLING)), BACKOFF_LIMIT)
    await session.execute(
        update(Job)
        .where(_still_claimed(job))
        .values(
            state="queued",
            lease_until=None,
            published_at=None,
            last_error=error,
            run_after=func.clock_timestamp() + delay,
        )
    )


async def give_back(session: AsyncSession, job: ClaimedJob) -> None:
    """Return a job that a stopping worker did not finish, without counting the attempt."""
    await session.execute(
        update(Job)
        .where(_still_claimed(job))
        .values(
            state="queued",
            lease_until=None,
            published_at=None,
            attempts=Job.attempts - 1,
            run_after=func.clock_timestamp(),
        )
    )
    await _notify(session, job.queue)


async def bury(session: AsyncSession, job: ClaimedJob, *, error: str, code: str) -> bool:
    """Mark the job dead: it will not run again, and stays visible. `code` is for whoever asked for it."""
    result = await session.execute(
        update(Job)
        .where(Job.id == job.id, Job.attempts == job.attempt, Job.state.in_(("queued", "running")))
        .values(state="dead", lease_until=None, last_error=error, error_code=code, finished_at=func.clock_timestamp())
    )
    await _wake_next(session, job)
    return _touched(result) == 1


async def release_all(session: AsyncSession) -> int:
    """Take back every running job, where the caller knows that no worker lives. Returns how many there were."""
    result = await session.execute(
        update(Job)
        .where(Job.state == "running")
        .values(state="queued", lease_until=None, published_at=None, run_after=func.clock_timestamp())
    )
    return _touched(result)


def _may_take(claimant: Claimant, queues: Collection[str]) -> Any:
    return and_(Job.queue.in_(queues), Job.kind.in_(claimant.kinds), Job.id.not_in(claimant.held), due())


def due() -> Any:
    """Which jobs wait for a worker: queued ones whose time has come, and running ones whose lease has ended."""
    now = func.clock_timestamp()
    return or_(
        and_(Job.state == "queued", Job.run_after <= now),
        and_(Job.state == "running", Job.lease_until < now),
    )


def blocked(held: Collection[UUID] = ()) -> Any:
    """By an unfinished earlier job of the same ordering key, or by any that runs.

    Ids follow the order of asking and not of commits: a later job may run before an earlier one can be seen. One whose
    worker is lost blocks no earlier one, which blocks it: neither would ever run.
    """
    other = aliased(Job)
    is_earlier = and_(other.state.in_(("queued", "running")), other.id < Job.id)
    is_alive = or_(other.lease_until >= func.clock_timestamp(), other.id.in_(held))
    return (
        select(other.id)
        .where(
            other.ordering_key == Job.ordering_key,
            or_(is_earlier, and_(other.state == "running", other.id != Job.id, is_alive)),
        )
        .exists()
    )


async def _wake_next(session: AsyncSession, job: ClaimedJob) -> None:
    if job.ordering_key is not None:
        await _notify(session, job.queue)


async def _notify(session: AsyncSession, queue: str) -> None:
    await session.execute(select(func.pg_notify(CHANNEL, queue)))


def _still_claimed(job: ClaimedJob) -> Any:
    return and_(Job.id == job.id, Job.state == "running", Job.attempts == job.attempt)


def _touched(result: Any) -> int:
    if not isinstance(result, CursorResult):
        raise TypeError("expected the result of a writing statement")
    return result.rowcount
