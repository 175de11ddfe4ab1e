"""A job that is named is done if it may run now, within its queue's time, and by one worker."""

import asyncio
from datetime import timedelta
from typing import NoReturn

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.ids import new_id
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.executor import JobExecutor
from bwenge.kit.jobs.kinds import Handler, JobKind
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import ClaimedJob, NewJob
from bwenge.kit.jobs.queues import MAINTENANCE, QUEUES, QueueRule


@pytest.fixture
def database(committed_database: Database) -> Database:
    """An executor works with what is committed, on connections of its own."""
    return committed_database


async def add(database: Database, *jobs: NewJob) -> list[Job]:
    async with database.unit_of_work(PLATFORM) as session:
        for job in jobs:
            await queue.enqueue(session, job)
        return list((await session.execute(select(Job).order_by(Job.id))).scalars())


async def state_of(database: Database, job: Job) -> tuple[str, int, str | None]:
    async with database.unit_of_work(PLATFORM) as session:
        row = await session.get_one(Job, job.id)
        return row.state, row.attempts, row.last_error


class Work:
    """Counts how often it is done."""

    def __init__(self) -> None:
        self.done = 0

    async def __call__(self, _job: ClaimedJob) -> None:
        self.done += 1


def executor(database: Database, handle: Handler, *, limit: timedelta | None = None) -> JobExecutor:
    rules = QUEUES if limit is None else {MAINTENANCE: QueueRule(slots=1, limit=limit)}
    return JobExecutor(database, [JobKind("work", handle)], rules=rules)


async def test_a_named_job_is_done_and_no_other(database: Database) -> None:
    first, second = await add(database, NewJob("work", {}), NewJob("work", {}))
    work = Work()
    with capture_logs() as told:
        assert await executor(database, work).run(second.id)
    [line] = [line for line in told if line["event"] == "job_done"]
    assert (line["kind"], line["job_id"]) == ("work", str(second.id))
    assert (await state_of(database, first))[0] == "queued"
    assert await state_of(database, second) == ("done", 1, None)
    assert work.done == 1


async def test_a_job_that_comes_twice_is_done_once(database: Database) -> None:
    [job] = await add(database, NewJob("work", {}))
    work = Work()
    outcomes = await asyncio.gather(*(executor(database, work).run(job.id) for _ in range(4)))
    outcomes.append(await executor(database, work).run(job.id))
    assert (outcomes.count(True), work.done) == (1, 1)


async def test_a_job_that_may_not_run_yet_is_left_alone(database: Database) -> None:
    _, blocked, delayed = await add(
        database,
        NewJob("work", {}, ordering_key="k"),
        NewJob("work", {}, ordering_key="k"),
        NewJob("work", {}, delay=timedelta(hours=1)),
    )
    work = Work()
    for job_id in (blocked.id, delayed.id, new_id()):
        assert not await executor(database, work).run(job_id)
    assert work.done == 0


async def test_a_job_whose_worker_was_lost_is_taken_over_when_its_lease_has_ended(database: Database) -> None:
    [job] = await add(database, NewJob("work", {}))
    lost = await executor(database, Work()).claim([MAINTENANCE])
    assert lost is not None
    work = Work()
    assert not await executor(database, work).run(job.id)
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).values(lease_until=text("clock_timestamp() - interval '1 s'")))
    assert await executor(database, work).run(job.id)
    assert await state_of(database, job) == ("done", 2, None)


async def test_an_attempt_that_takes_longer_than_its_queue_allows_is_ended_and_has_failed(database: Database) -> None:
    [job] = await add(database, NewJob("work", {}))
    ended = asyncio.Event()

    async def endless(_job: ClaimedJob) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert await executor(database, endless, limit=timedelta(milliseconds=50)).run(job.id)
    assert ended.is_set()
    assert await state_of(database, job) == ("queued", 1, "TimedOut")


async def test_the_last_attempt_that_takes_too_long_tells_its_owner_so(database: Database) -> None:
    [job] = await add(database, NewJob("work", {}, max_attempts=1))
    told: list[str] = []

    async def endless(_job: ClaimedJob) -> None:
        await asyncio.Event().wait()

    async def note(_session: AsyncSession, _job: ClaimedJob, code: str) -> None:
        told.append(code)

    rules = {MAINTENANCE: QueueRule(slots=1, limit=timedelta(milliseconds=50))}
    await JobExecutor(database, [JobKind("work", endless, on_dead=note)], rules=rules).run(job.id)
    assert told == ["timed_out"]


async def test_a_timeout_of_the_work_itself_is_a_failure_like_others(database: Database) -> None:
    [job] = await add(database, NewJob("work", {}))

    async def impatient(_job: ClaimedJob) -> NoReturn:
        raise TimeoutError

    await executor(database, impatient).run(job.id)
    assert await state_of(database, job) == ("queued", 1, "TimeoutError")


async def test_work_that_is_cancelled_is_given_back_without_counting_the_attempt(database: Database) -> None:
    [job] = await add(database, NewJob("work", {}))
    begun = asyncio.Event()

    async def endless(_job: ClaimedJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(executor(database, endless).run(job.id))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await state_of(database, job) == ("queued", 0, None)


@pytest.mark.parametrize(("settling", "state"), [("give_back", ("queued", 0, None)), ("finish", ("done", 1, None))])
async def test_a_cancel_does_not_undo_how_the_attempt_is_being_written_down(
    database: Database, monkeypatch: pytest.MonkeyPatch, settling: str, state: tuple[str, int, str | None]
) -> None:
    [job] = await add(database, NewJob("work", {}))
    begun, is_writing = asyncio.Event(), asyncio.Event()
    write = getattr(queue, settling)

    async def write_slowly(session: AsyncSession, claimed: ClaimedJob) -> None:
        await write(session, claimed)
        is_writing.set()
        await asyncio.sleep(0.2)

    async def work(_job: ClaimedJob) -> None:
        begun.set()
        if settling == "give_back":
            await asyncio.Event().wait()

    monkeypatch.setattr(queue, settling, write_slowly)
    running = asyncio.create_task(executor(database, work).run(job.id))
    await begun.wait()
    if settling == "give_back":
        running.cancel()
    await is_writing.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await state_of(database, job) == state
