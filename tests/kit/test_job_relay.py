"""A job that may run is told to the workers after its commit, as often as it takes, and not more often."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.executor import JobExecutor
from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import ClaimedJob, NewJob
from bwenge.kit.jobs.queues import EXTRACTION, MAINTENANCE
from bwenge.kit.jobs.relay import BATCH, JobRelay, Message
from tests.support.waiting import comes_true

NEVER = timedelta(hours=1)
AT_ONCE = timedelta(0)


class FakeBroker:
    """Keeps what is published until a test takes it, or forgets it."""

    def __init__(self) -> None:
        self.held: deque[Message] = deque()
        self.published = 0
        self.is_away = False
        self.is_full = False

    def publish(self, messages: Sequence[Message]) -> None:
        if self.is_away:
            raise ConnectionError("the broker is away")
        if self.is_full:
            raise MemoryError("the broker takes no more")
        self.held.extend(messages)
        self.published += len(messages)

    def waiting(self, queue: str) -> int:
        if self.is_away:
            raise ConnectionError("the broker is away")
        return sum(message.queue == queue for message in self.held)


@pytest.fixture
def database(committed_database: Database) -> Database:
    """Relays and workers work with what is committed, on connections of their own."""
    return committed_database


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


async def succeed(_job: ClaimedJob) -> None:
    """Do the work at once."""


def executor_of(database: Database, *, told: list[str] | None = None) -> JobExecutor:
    async def note(_session: AsyncSession, _job: ClaimedJob, code: str) -> None:
        if told is not None:
            told.append(code)

    return JobExecutor(database, [JobKind("work", succeed, on_dead=note)])


def relay_of(database: Database, broker: FakeBroker, *, again_after: timedelta = NEVER) -> JobRelay:
    return JobRelay(database, broker, executor_of(database), again_after=again_after)


async def add(database: Database, *jobs: NewJob) -> None:
    async with database.unit_of_work(PLATFORM) as session:
        for job in jobs:
            await queue.enqueue(session, job)


async def rows(database: Database) -> list[Job]:
    async with database.unit_of_work(PLATFORM) as session:
        return list((await session.execute(select(Job).order_by(Job.id))).scalars())


@asynccontextmanager
async def at_work(relay: JobRelay) -> AsyncIterator[None]:
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_job_is_published_once_by_its_id_and_its_queue(database: Database, broker: FakeBroker) -> None:
    await add(database, NewJob("work", {}, queue=EXTRACTION))
    relay = relay_of(database, broker)
    assert await relay.publish_due() == 1
    assert await relay.publish_due() == 0
    [job] = await rows(database)
    assert list(broker.held) == [Message(job.id, EXTRACTION)]
    assert job.published_at is not None


async def test_a_job_is_published_after_its_commit_and_not_before(database: Database, broker: FakeBroker) -> None:
    relay = relay_of(database, broker)
    async with database.unit_of_work(PLATFORM) as session:
        await queue.enqueue(session, NewJob("work", {}))
        assert await relay.publish_due() == 0
    assert await relay.publish_due() == 1


async def test_a_delayed_job_and_one_of_an_unknown_kind_are_not_published(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, NewJob("work", {}, delay=timedelta(hours=1)), NewJob("other", {}))
    assert await relay_of(database, broker).publish_due() == 0


async def test_a_commit_wakes_the_relay_before_its_poll(database: Database, broker: FakeBroker) -> None:
    relay = JobRelay(database, broker, executor_of(database), poll_seconds=3600)
    async with at_work(relay):
        await add(database, NewJob("work", {}))
        await comes_true(lambda: _is(broker.published == 1), "the job is published", seconds=20)


async def _is(fact: bool) -> bool:  # noqa: FBT001  # the form of what is waited for
    return fact


async def test_of_several_relays_one_publishes_a_job(database: Database, broker: FakeBroker) -> None:
    await add(database, *(NewJob("work", {}) for _ in range(20)))
    await asyncio.gather(*(relay_of(database, broker).publish_due() for _ in range(4)))
    assert sorted(message.job_id for message in broker.held) == [job.id for job in await rows(database)]


async def test_a_job_whose_message_was_lost_is_published_again(database: Database, broker: FakeBroker) -> None:
    await add(database, NewJob("work", {}))
    relay = relay_of(database, broker, again_after=AT_ONCE)
    await relay.publish_due()
    broker.held.clear()
    await relay.publish_due()
    assert [message.job_id for message in broker.held] == [job.id for job in await rows(database)]


async def test_a_lost_message_is_not_missed_before_its_time(database: Database, broker: FakeBroker) -> None:
    await add(database, NewJob("work", {}))
    relay = relay_of(database, broker, again_after=NEVER)
    await relay.publish_due()
    broker.held.clear()
    await relay.publish_due()
    assert broker.published == 1


async def test_jobs_that_wait_for_busy_workers_do_not_pile_up_in_the_broker(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, *(NewJob("work", {}) for _ in range(5)))
    relay = relay_of(database, broker, again_after=AT_ONCE)
    for _ in range(5):
        await relay.publish_due()
    assert broker.published == 5
    broker.held.popleft()
    await relay.publish_due()
    assert broker.published == 6


async def test_an_emptied_broker_gets_every_job_again(database: Database, broker: FakeBroker) -> None:
    await add(database, *(NewJob("work", {}) for _ in range(3)), NewJob("work", {}, queue=EXTRACTION))
    relay = relay_of(database, broker, again_after=AT_ONCE)
    await relay.publish_due()
    broker.held.clear()
    await relay.publish_due()
    assert {message.job_id for message in broker.held} == {job.id for job in await rows(database)}


async def test_while_the_broker_is_away_nothing_is_lost_and_nothing_is_marked(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, NewJob("work", {}))
    relay = relay_of(database, broker)
    broker.is_away = True
    for _ in range(3):
        await relay.publish_due()
    assert [job.published_at for job in await rows(database)] == [None]
    broker.is_away = False
    await relay.publish_due()
    assert broker.published == 1


async def test_a_full_broker_that_still_answers_is_not_tried_again_at_once(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, *(NewJob("work", {}) for _ in range(BATCH)))
    relay = relay_of(database, broker)
    broker.is_full = True
    assert [await relay.publish_due() for _ in range(2)] == [0, 0]
    broker.is_full = False
    assert await relay.publish_due() == BATCH


async def test_a_claimed_job_is_not_published_until_its_lease_has_ended_and_then_at_once(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, NewJob("work", {}))
    relay = relay_of(database, broker)
    await relay.publish_due()
    claimed = await executor_of(database).claim([MAINTENANCE])
    assert claimed is not None
    assert await relay.publish_due() == 0
    async with database.unit_of_work(PLATFORM) as session:
        # As if it had been published, and claimed, a minute ago.
        published, ended = (text(f"clock_timestamp() - interval '{seconds} s'") for seconds in (60, 45))
        await session.execute(update(Job).values(published_at=published, lease_until=ended))
    assert await relay.publish_due() == 1
    assert await relay.publish_due() == 0


async def test_a_job_that_is_to_be_tried_again_is_published_again_when_its_time_has_come(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, NewJob("work", {}))
    relay = relay_of(database, broker)
    await relay.publish_due()
    claimed = await executor_of(database).claim([MAINTENANCE])
    assert claimed is not None
    async with database.unit_of_work(PLATFORM) as session:
        await queue.retry_later(session, claimed, error="ConnectionError")
    assert await relay.publish_due() == 0
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).values(run_after=text("clock_timestamp()")))
    assert await relay.publish_due() == 1


async def test_the_next_of_an_ordering_key_is_published_as_soon_as_the_one_before_it_ended(
    database: Database, broker: FakeBroker
) -> None:
    await add(database, *(NewJob("work", {}, ordering_key="k") for _ in range(2)))
    first, second = await rows(database)
    relay = JobRelay(database, broker, executor_of(database), poll_seconds=3600)
    async with at_work(relay):
        await comes_true(lambda: _is(broker.published == 1), "the first is published", seconds=20)
        assert broker.held[0].job_id == first.id
        assert await executor_of(database).run(first.id)
        await comes_true(lambda: _is(broker.published == 2), "the second is published", seconds=20)
    assert broker.held[1].job_id == second.id


async def test_a_relay_buries_what_killed_its_workers_each_time(database: Database, broker: FakeBroker) -> None:
    told: list[str] = []
    await add(database, NewJob("work", {}, max_attempts=1))
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            update(Job).values(state="running", attempts=1, lease_until=text("clock_timestamp() - interval '1 s'"))
        )
    async with at_work(JobRelay(database, broker, executor_of(database, told=told))):
        await comes_true(lambda: _is(bool(told)), "the owner is told", seconds=20)
    assert (told, broker.published) == (["worker_lost"], 0)
    assert [job.state for job in await rows(database)] == ["dead"]
