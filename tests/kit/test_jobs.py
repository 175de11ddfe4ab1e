"""Jobs are never lost, never run twice at once, and never loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.ids import new_id
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.kinds import AttemptFailed, JobKind
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import Claimant, ClaimedJob, NewJob
from bwenge.kit.jobs.queues import EXTRACTION, MAINTENANCE, QUEUES, QueueRule
from bwenge.kit.jobs.runner import JobRunner

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


async def claim(
    database: Database, *, lease: timedelta = LEASE, held: Collection[ClaimedJob] = ()
) -> ClaimedJob | None:
    claimant = Claimant("test", kinds=["work"], held=[job.id for job in held])
    async with database.unit_of_work(PLATFORM) as session:
        return await queue.claim(session, claimant, queues=[MAINTENANCE], lease=lease)


async def end_lease(database: Database, job: ClaimedJob) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            update(Job).where(Job.id == job.id).values(lease_until=text("clock_timestamp() - interval '1 s'"))
        )


def slots(count: int) -> dict[str, QueueRule]:
    return {MAINTENANCE: QueueRule(slots=count, limit=QUEUES[MAINTENANCE].limit)}


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
    async with database.unit_of_work(PLATFORM) as session:
        first = await queue.enqueue(session, job)
        assert await queue.enqueue(session, job) is None
        assert await queue.find_unfinished(session, "report-7") == first
    assert [row.id for row in await rows(database)] == [first]


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
        assert await queue.bury(session, first, error="worker_lost", code="worker_lost")
    second = await claim(database)
    assert second is not None
    assert second.payload == {"n": 2}


async def test_a_job_waits_for_a_later_one_of_its_ordering_key_that_began_before_it_was_committed(
    database: Database,
) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        await queue.enqueue(session, NewJob("work", {"n": 1}, ordering_key="k"))
        await add(database, NewJob("work", {"n": 2}, ordering_key="k"))
        later = await claim(database)
    assert later is not None
    assert later.payload == {"n": 2}
    assert await claim(database) is None
    async with database.unit_of_work(PLATFORM) as session:
        await queue.finish(session, later)
    assert (await claim(database)) is not None


async def test_two_jobs_of_one_ordering_key_do_not_wait_for_each_other_when_a_worker_is_lost(
    database: Database,
) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        await queue.enqueue(session, NewJob("work", {"n": 1}, ordering_key="k"))
        await add(database, NewJob("work", {"n": 2}, ordering_key="k"))
        later = await claim(database)
    assert later is not None
    await end_lease(database, later)
    assert await claim(database, held=[later]) is None
    first = await claim(database)
    assert first is not None
    assert first.payload == {"n": 1}


async def test_a_worker_is_not_given_what_it_holds_though_the_lease_has_ended(database: Database) -> None:
    await add(database, NewJob("work", {}))
    held = await claim(database)
    assert held is not None
    await end_lease(database, held)
    assert await claim(database, held=[held]) is None
    assert await claim(database) is not None


async def test_a_job_of_an_unknown_kind_waits_for_a_worker_that_knows_it(database: Database) -> None:
    await add(database, NewJob("other", {}), NewJob("work", {}))
    claimed = await claim(database)
    assert claimed is not None
    assert claimed.kind == "work"
    assert await claim(database) is None


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
    await running.start(overlap, rules=slots(2))
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


async def test_a_job_with_very_many_attempts_waits_no_longer_than_the_limit(database: Database) -> None:
    await add(database, NewJob("work", {}, max_attempts=10_000))
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).values(attempts=4_999))
    job = await claim(database)
    assert job is not None
    async with database.unit_of_work(PLATFORM) as session:
        await queue.retry_later(session, job, error="StoreAway")
    [again] = await rows(database)
    waits = again.run_after - again.updated_at
    assert (again.state, queue.BACKOFF_LIMIT - timedelta(seconds=5) < waits <= queue.BACKOFF_LIMIT) == ("queued", True)


class OutOfPaper(AttemptFailed):
    code = "out_of_paper"


@pytest.mark.parametrize(("failure", "code"), [(ConnectionError, "internal"), (OutOfPaper, "out_of_paper")])
async def test_the_last_failed_attempt_buries_the_job_and_tells_its_owner(
    database: Database, running: Running, failure: type[Exception], code: str
) -> None:
    told: list[str] = []

    async def fail(_job: ClaimedJob) -> None:
        raise failure

    async def note(_session: AsyncSession, _job: ClaimedJob, code: str) -> None:
        told.append(code)

    await add(database, NewJob("work", {}, max_attempts=1))
    await running.start(fail, on_dead=note)
    await running.until("dead")
    assert told == [code]


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


async def exhaust(database: Database, *jobs: NewJob) -> None:
    """Let the worker die in the one attempt that each of them has."""
    await add(database, *jobs)
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            update(Job).values(state="running", attempts=1, lease_until=text("clock_timestamp() - interval '1 s'"))
        )


async def test_a_job_whose_owner_cannot_be_told_is_buried_and_stops_no_other(
    database: Database, running: Running
) -> None:
    told: list[int] = []

    async def refuse_the_first(session: AsyncSession, job: ClaimedJob, _code: str) -> None:
        if job.payload["n"] == 1:
            await session.execute(text("SELECT nothing"))
        told.append(job.payload["n"])

    await exhaust(database, *(NewJob("work", {"n": n}, max_attempts=1) for n in (1, 2)))
    await running.start(succeed, on_dead=refuse_the_first)
    await running.until("dead", count=2)
    assert told == [2]


async def test_an_exhausted_job_of_an_unknown_kind_stops_no_burial(database: Database, running: Running) -> None:
    await exhaust(database, NewJob("other", {}, max_attempts=1), NewJob("work", {}, max_attempts=1))
    await running.start(succeed)
    dead = await running.until("dead")
    assert [job.kind for job in dead] == ["work"]


async def test_a_running_job_is_not_begun_again_or_buried_when_its_lease_ends_by_the_clock(
    database: Database, running: Running
) -> None:
    begun, gate, starts = asyncio.Event(), asyncio.Event(), 0

    async def work(_job: ClaimedJob) -> None:
        nonlocal starts
        starts += 1
        begun.set()
        await gate.wait()

    await add(database, NewJob("work", {"n": 1}, max_attempts=1), NewJob("work", {"n": 2}))
    runner = await running.start(work, rules=slots(3))
    async with asyncio.timeout(20):
        while starts < 2:
            await begun.wait()
            begun.clear()
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).values(lease_until=text("clock_timestamp() - interval '1 h'")))
    # A third job is claimed after the first two were passed over.
    await add(database, NewJob("work", {"n": 3}))
    async with asyncio.timeout(20):
        await begun.wait()
    assert starts == 3
    assert len(runner._running) == 3
    gate.set()
    await running.until("done", count=3)


async def test_long_work_holds_up_no_maintenance(database: Database, running: Running) -> None:
    gate = asyncio.Event()

    async def work(job: ClaimedJob) -> None:
        if job.queue == EXTRACTION:
            await gate.wait()

    await add(database, *(NewJob("work", {}, queue=EXTRACTION) for _ in range(3)), NewJob("work", {}))
    await running.start(work)
    done = await running.until("done")
    assert [job.queue for job in done] == [MAINTENANCE]
    gate.set()
    await running.until("done", count=4)


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
