"""What recurs is asked for once in each period, however many keep the time; and what recurs does its work."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from sqlalchemy import select, text, update

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs import queue, schedule
from bwenge.kit.jobs.executor import JobExecutor
from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.jobs.models import Job, JobSchedule
from bwenge.kit.jobs.presence import WorkerPresence, announce, leave
from bwenge.kit.jobs.queue import ClaimedJob, NewJob
from bwenge.kit.jobs.queues import EXTRACTION, MAINTENANCE, QUEUES
from bwenge.kit.jobs.runner import JobRunner
from bwenge.kit.jobs.schedule import Recurring, ask_for
from bwenge.kit.jobs.standing import JobOverview
from bwenge.kit.jobs.tidying import DEAD_KEPT, DONE_KEPT, TIDY, JobTidying
from tests.support.waiting import comes_true

HOURLY = Recurring("sweep", every=timedelta(hours=1))
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
def database(committed_database: Database) -> Database:
    return committed_database


async def jobs(database: Database) -> list[Job]:
    async with database.unit_of_work(PLATFORM) as session:
        return list((await session.execute(select(Job).order_by(Job.id))).scalars())


async def succeed(_job: ClaimedJob) -> None:
    """Do the work at once."""


async def do_all(database: Database) -> None:
    executor = JobExecutor(database, [JobKind(HOURLY.kind, succeed)])
    for job in await jobs(database):
        await executor.run(job.id)


async def test_two_that_keep_the_time_ask_once_in_a_period_though_the_job_is_done_by_then(database: Database) -> None:
    asked = await asyncio.gather(*(ask_for(database, HOURLY, at=NOON + timedelta(seconds=n)) for n in range(3)))
    await do_all(database)
    asked.append(await ask_for(database, HOURLY, at=NOON + timedelta(minutes=59)))
    assert (asked.count(True), len(await jobs(database))) == (1, 1)


async def test_the_next_period_has_its_own_job(database: Database) -> None:
    assert await ask_for(database, HOURLY, at=NOON)
    await do_all(database)
    assert await ask_for(database, HOURLY, at=NOON + timedelta(hours=1))
    assert len(await jobs(database)) == 2


async def test_a_period_whose_predecessors_job_is_unfinished_adds_none(database: Database) -> None:
    assert await ask_for(database, HOURLY, at=NOON)
    assert not await ask_for(database, HOURLY, at=NOON + timedelta(hours=1))
    assert len(await jobs(database)) == 1


async def test_a_clock_that_is_behind_asks_for_nothing_of_the_past(database: Database) -> None:
    assert await ask_for(database, HOURLY, at=NOON + timedelta(hours=1))
    await do_all(database)
    assert not await ask_for(database, HOURLY, at=NOON)


async def test_a_machine_whose_clock_is_ahead_does_not_silence_the_schedule(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Ahead":
            return cls.fromtimestamp(time.time(), tz) + timedelta(days=365)

    monkeypatch.setattr(schedule, "datetime", Ahead)
    assert await ask_for(database, HOURLY)
    async with database.unit_of_work(PLATFORM) as session:
        asked_until = (await session.execute(select(JobSchedule.asked_until))).scalar_one()
    assert asked_until < datetime.now(UTC) + timedelta(hours=2)


async def test_the_one_process_keeps_the_schedule_and_says_that_it_works(database: Database) -> None:
    runner = JobRunner(database, [JobKind(HOURLY.kind, succeed)], schedule=[HOURLY])
    await runner.start()

    async def is_done() -> bool:
        return [job.state for job in await jobs(database)] == ["done"]

    async def is_seen() -> bool:
        return len((await JobOverview(database).standing()).workers) == 1

    await comes_true(is_done, "the job of this hour is done", seconds=20)
    await comes_true(is_seen, "the runner is seen", seconds=20)
    [worker] = (await JobOverview(database).standing()).workers
    assert (worker.alive, set(worker.queues)) == (True, set(QUEUES))
    await runner.stop()
    assert (await JobOverview(database).standing()).workers == []


async def test_a_worker_is_alive_while_it_is_heard_of_and_busy_while_it_works(database: Database) -> None:
    idle, busy, lost = (WorkerPresence.new([EXTRACTION]) for _ in range(3))
    for presence, running in ((idle, 0), (busy, 2), (lost, 1)):
        await announce(database, presence, running=running)
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            text("UPDATE job_workers SET seen_at = now() - interval '16 s' WHERE name = :name"), {"name": lost.name}
        )
    found = {worker.name: (worker.alive, worker.busy) for worker in (await JobOverview(database).standing()).workers}
    assert found == {idle.name: (True, False), busy.name: (True, True), lost.name: (False, False)}
    await leave(database, busy)
    assert busy.name not in {worker.name for worker in (await JobOverview(database).standing()).workers}


async def test_a_queue_is_as_deep_as_it_has_due_jobs_that_nobody_has_begun(database: Database) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        for _ in range(3):
            await queue.enqueue(session, NewJob("work", {}, queue=EXTRACTION))
        await queue.enqueue(session, NewJob("work", {}, queue=EXTRACTION, delay=timedelta(hours=1)))
        await session.execute(update(Job).values(run_after=Job.run_after - timedelta(seconds=90)))
    assert await JobExecutor(database, [JobKind("work", succeed)]).claim([EXTRACTION]) is not None
    standing = {found.name: found for found in (await JobOverview(database).standing()).queues}
    assert list(standing) == list(QUEUES)
    assert standing[EXTRACTION].depth == 2
    assert 90 <= (standing[EXTRACTION].oldest_seconds or 0) < 120
    assert (standing[MAINTENANCE].depth, standing[MAINTENANCE].oldest_seconds) == (0, None)


async def test_jobs_that_ended_long_ago_and_workers_that_died_are_forgotten(database: Database) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        for _ in range(5):
            await queue.enqueue(session, NewJob("work", {}))
    old_done, new_done, old_dead, new_dead, queued = await jobs(database)
    ends = {
        old_done.id: ("done", DONE_KEPT + timedelta(days=1)),
        new_done.id: ("done", DONE_KEPT - timedelta(days=1)),
        old_dead.id: ("dead", DEAD_KEPT + timedelta(days=1)),
        new_dead.id: ("dead", DONE_KEPT + timedelta(days=1)),
    }
    lost, present = WorkerPresence.new([EXTRACTION]), WorkerPresence.new([EXTRACTION])
    for presence in (lost, present):
        await announce(database, presence, running=0)
    async with database.unit_of_work(PLATFORM) as session:
        for job_id, (state, ago) in ends.items():
            await session.execute(
                update(Job).where(Job.id == job_id).values(state=state, finished_at=datetime.now(UTC) - ago)
            )
        await session.execute(
            text("UPDATE job_workers SET seen_at = now() - interval '25 h' WHERE name = :name"), {"name": lost.name}
        )
    await JobTidying(database).run(ClaimedJob(new_done.id, TIDY, None, 1, 5, {}))
    assert [job.id for job in await jobs(database)] == [new_done.id, new_dead.id, queued.id]
    assert [worker.name for worker in (await JobOverview(database).standing()).workers] == [present.name]
