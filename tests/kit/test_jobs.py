"""Jobs are never lost, never run twice at once, and never loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.ids import new_id
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import ClaimedJob, NewJob
from bwenge.kit.jobs.runner import JobKind, JobRunner

LEASE = timedelta(seconds=15)
BRIEF = timedelta(seconds=0.6)

Handler = Callable[[ClaimedJob], Awaitable[None]]


@pytest.fixture
def database(committed_database: Database) -> Database:
    """The runner works with what is committed, on connections of its own."""
    return committed_database


async def add(database: Database, *jobs: NewJob) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        for job in jobs:
            await queue.enqueue(session, job)


async def rows(database: Database) -> list[Job]:
    async with database.unit_of_work(PLATFORM) as session:
        return list((await session.execute(select(Job).order_by(Job.id))).scalars())


async def claim(database: Database, *, lease: timedelta = LEASE) -> ClaimedJob | None:
    async with database.unit_of_work(PLATFORM) as session:
        return await queue.claim(session, queues=["default"], worker="test", lease=lease)


async def end_lease(database: Database, job: ClaimedJob) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            update(Job).where(Job.id == job.id).values(lease_until=text("clock_timestamp() - interval '1 s'"))
        )


class Running:
    """A runner that is stopped when the test ends, and a way to wait for what it does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._runners: list[JobRunner] = []

    async def start(self, handler: Handler, *, alone: bool = False, **options: Any) -> JobRunner:
        kind = JobKind("work", handler, on_dead=options.pop("on_dead", None))
        runner = JobRunner(self._database, [kind], **options)
        self._runners.append(runner)
        await runner.start(alone=alone)
        return runner

    async def until(self, state: str, *, count: int = 1) -> list[Job]:
        async with asyncio.timeout(20):
            while True:
                found = [job for job in await rows(self._database) if job.state == state]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.stop(grace_seconds=0)


@pytest.fixture
async def running(database: Database) -> AsyncIterator[Running]:
    running = Running(database)
    try:
        yield running
    finally:
        await running.stop()


async def succeed(_job: ClaimedJob) -> None:
    """Do the work at once."""


async def test_a_job_is_claimed_once_however_many_workers_ask(database: Database) -> None:
    await add(database, NewJob("work", {}))
    claims = await asyncio.gather(*(claim(database) for _ in range(5)))
    assert [claimed is not None for claimed in claims].count(True) == 1


async def test_a_job_of_a_rolled_back_change_is_never_seen(database: Database) -> None:
    async def change_and_fail() -> None:
        async with database.unit_of_work(PLATFORM) as session:
            await queue.enqueue(session, NewJob("work", {}))
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        await change_and_fail()
    assert await claim(database) is None


async def test_a_delayed_job_waits(database: Database) -> None:
    await add(database, NewJob("work", {}, delay=timedelta(hours=1)))
    assert await claim(database) is None


async def test_the_same_work_waits_only_once(database: Database) -> None:
    job = NewJob("work", {}, dedupe_key="report-7")
    await add(database, job, job)
    assert len(await rows(database)) == 1


async def test_work_that_was_done_may_be_asked_for_again(database: Database) -> None:
    job = NewJob("work", {}, dedupe_key="report-7")
    await add(database, job)
    claimed = await claim(database)
    assert claimed is not None
    async with database.unit_of_work(PLATFORM) as session:
        assert await queue.finish(session, claimed)
    await add(database, job)
    assert [row.state for row in await rows(database)] == ["done", "queued"]


async def test_jobs_of_one_ordering_key_run_one_after_the_other(database: Database) -> None:
    await add(database, NewJob("work", {"n": 1}, ordering_key="source-1"))
    await add(database, NewJob("work", {"n": 2}, ordering_key="source-1"))
    first = await claim(database)
    assert first is not None
    assert first.payload == {"n": 1}
    assert await claim(database) is None
    async with database.unit_of_work(PLATFORM) as session:
        await queue.finish(session, first)
    second = await claim(database)
    assert second is not None
    assert second.payload == {"n": 2}


async def test_a_dead_job_does_not_block_the_next_of_its_ordering_key(database: Database) -> None:
    await add(database, NewJob("work", {"n": 1}, ordering_key="k"), NewJob("work", {"n": 2}, ordering_key="k"))
    first = await claim(database)
    assert first is not None
    async with database.unit_of_work(PLATFORM) as session:
        assert await queue.bury(session, first, error="worker_lost")
    second = await claim(database)
    assert second is not None
    assert second.payload == {"n": 2}


async def test_a_worker_that_lost_its_lease_cannot_finish_the_job_of_the_next(database: Database) -> None:
    await add(database, NewJob("work", {}))
    lost = await claim(database)
    assert lost is not None
    await end_lease(database, lost)
    taken = await claim(database)
    assert taken is not None
    assert (taken.id, taken.attempt) == (lost.id, 2)
    async with database.unit_of_work(PLATFORM) as session:
        assert not await queue.extend_lease(session, lost, lease=LEASE)
        assert not await queue.finish(session, lost)
        assert await queue.finish(session, taken)


async def test_a_committed_job_wakes_the_runner_before_its_poll(database: Database, running: Running) -> None:
    await running.start(succeed, poll_seconds=3600)
    await add(database, NewJob("work", {}))
    done = await running.until("done")
    assert done[0].attempts == 1


async def test_no_more_jobs_run_at_once_than_allowed(database: Database, running: Running) -> None:
    gate, together, most = asyncio.Event(), 0, 0

    async def overlap(_job: ClaimedJob) -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        if together == 2:
            gate.set()
        await gate.wait()
        together -= 1

    await add(database, *(NewJob("work", {}) for _ in range(6)))
    await running.start(overlap, concurrency=2)
    await running.until("done", count=6)
    assert most == 2


async def test_a_failed_attempt_is_tried_again_later_with_its_reason_kept(database: Database, running: Running) -> None:
    failed = asyncio.Event()

    async def fail(_job: ClaimedJob) -> None:
        failed.set()
        raise ConnectionError("the text of a failure may hold secrets")

    await add(database, NewJob("work", {}))
    await running.start(fail)
    await failed.wait()
    job = (await running.until("queued"))[0]
    assert (job.attempts, job.last_error) == (1, "ConnectionError")
    assert job.run_after > job.updated_at


async def test_the_last_failed_attempt_buries_the_job_and_tells_its_owner(database: Database, running: Running) -> None:
    told: list[str] = []

    async def fail(_job: ClaimedJob) -> None:
        raise ConnectionError

    async def note(_session: AsyncSession, _job: ClaimedJob, code: str) -> None:
        told.append(code)

    await add(database, NewJob("work", {}, max_attempts=1))
    await running.start(fail, on_dead=note)
    await running.until("dead")
    assert told == ["internal"]


async def test_a_job_that_kills_its_worker_each_time_is_buried_and_not_tried_for_ever(
    database: Database, running: Running
) -> None:
    told: list[str] = []

    async def note(_session: AsyncSession, _job: ClaimedJob, code: str) -> None:
        told.append(code)

    await add(database, NewJob("work", {}, max_attempts=2))
    for _ in range(2):
        claimed = await claim(database)
        assert claimed is not None
        await end_lease(database, claimed)
    await running.start(succeed, on_dead=note)
    await running.until("dead")
    assert told == ["worker_lost"]


async def test_a_start_alone_takes_back_what_a_killed_process_was_running(database: Database, running: Running) -> None:
    await add(database, NewJob("work", {}))
    assert await claim(database, lease=timedelta(hours=1)) is not None
    await running.start(succeed, alone=True)
    assert (await running.until("done"))[0].attempts == 2


async def test_a_start_beside_other_workers_leaves_their_jobs_alone(database: Database, running: Running) -> None:
    await add(database, NewJob("work", {}), NewJob("work", {}))
    assert await claim(database, lease=timedelta(hours=1)) is not None
    await running.start(succeed)
    await running.until("done")
    assert sorted(job.state for job in await rows(database)) == ["done", "running"]


async def test_the_heartbeat_keeps_a_long_job_from_being_claimed_again(database: Database, running: Running) -> None:
    extended = asyncio.Event()

    async def outlive_the_lease(job: ClaimedJob) -> None:
        async with asyncio.timeout(20):
            first = (await rows(database))[0].lease_until
            while (await rows(database))[0].lease_until == first:  # noqa: ASYNC110  # another process's row, no event
                await asyncio.sleep(0.02)
        assert job.attempt == 1
        extended.set()

    await add(database, NewJob("work", {}))
    await running.start(outlive_the_lease, lease=BRIEF)
    assert (await running.until("done"))[0].attempts == 1
    assert extended.is_set()


async def test_a_lost_claim_stops_the_work(database: Database, running: Running) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def work(_job: ClaimedJob) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await add(database, NewJob("work", {}))
    await running.start(work, lease=BRIEF)
    await begun.wait()
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).values(attempts=Job.attempts + 1))
    async with asyncio.timeout(20):
        await stopped.wait()


async def test_stopping_gives_an_unfinished_job_back_without_counting_the_attempt(
    database: Database, running: Running
) -> None:
    begun = asyncio.Event()

    async def work(_job: ClaimedJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    await add(database, NewJob("work", {}))
    runner = await running.start(work)
    await begun.wait()
    await runner.stop(grace_seconds=0)
    job = (await rows(database))[0]
    assert (job.state, job.attempts) == ("queued", 0)


async def test_stopping_waits_for_a_job_that_ends_in_time(database: Database, running: Running) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work(_job: ClaimedJob) -> None:
        begun.set()
        await gate.wait()

    await add(database, NewJob("work", {}))
    runner = await running.start(work)
    await begun.wait()
    stopping = asyncio.create_task(runner.stop(grace_seconds=20))
    gate.set()
    await stopping
    assert (await rows(database))[0].state == "done"


async def test_a_tenant_asks_for_its_own_jobs_only(database: Database) -> None:
    own, other = new_id(), new_id()
    await add(database, NewJob("work", {}, org_id=other))
    async with database.unit_of_work(own) as session:
        await queue.enqueue(session, NewJob("work", {}, org_id=own))
        seen = (await session.execute(select(Job.org_id))).scalars().all()
    assert seen == [own]
