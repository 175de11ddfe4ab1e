"""Real Celery workers over a real Redis: whatever is killed or emptied, what was asked for is done, and done once."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from bwenge.apps.schedule import SCHEDULE
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.queues import QUEUES
from tests.support.application import Application, Person, open_application
from tests.support.dying_platform import Point
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import comes_true
from tests.support.workers import WorkerProcess, Workshop

BOOK = b" ".join(b"Sentence %d of a long lesson on wells." % number for number in range(400))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def workshop(committed_url: URL, redis: RedisServer, tmp_path: Path) -> Workshop:
    logs = tmp_path / "logs"
    logs.mkdir()
    return Workshop(committed_url, redis.url, tmp_path / "data", logs)


@pytest.fixture
async def school(committed_database: Database, workshop: Workshop) -> AsyncIterator["School"]:
    async with open_application(committed_database, workshop.data_dir) as application:
        owner = await application.register()
        yield School(application, committed_database, owner)


class School:
    """One tenant, which uploads and looks how its documents fare."""

    def __init__(self, application: Application, database: Database, owner: Person) -> None:
        self.application, self._database, self.owner = application, database, owner

    async def upload(self, content: bytes = BOOK) -> str:
        persona_id = await self.application.create_persona(self.owner)
        answer = await self.application.upload(self.owner, persona_id, content)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["source_id"])

    async def status(self, source_id: str) -> dict[str, Any]:
        answer = await self.application.client.get(f"/knowledge/{source_id}/status", headers=self.owner.headers)
        body: dict[str, Any] = answer.json()
        return body

    async def wait(self, source_id: str, worker: WorkerProcess, *, status: str = "ready") -> dict[str, Any]:
        async def has_ended() -> bool:
            return (await self.status(source_id))["status"] in {status, "failed"}

        try:
            await comes_true(has_ended, f"the source is {status}")
        except TimeoutError as error:
            raise TimeoutError(worker.output) from error
        return await self.status(source_id)

    async def index(self, source_id: str) -> list[tuple[Any, ...]]:
        """All that indexing wrote, without the ids that each run makes anew."""
        found: list[tuple[Any, ...]] = []
        for statement in (
            "SELECT chunk_index, text, locator::text FROM knowledge_chunks WHERE source_id = :id ORDER BY 1",
            "SELECT term, segment, chunk_indexes, frequencies FROM postings WHERE source_id = :id ORDER BY 1, 2",
            (
                "SELECT c.chunk_index, v.window_index, v.embedding::text FROM chunk_vectors v"
                " JOIN knowledge_chunks c ON c.id = v.chunk_id WHERE v.source_id = :id ORDER BY 1, 2"
            ),
        ):
            found += [tuple(map(str, row)) for row in await self.rows(statement, id=source_id)]
        return found

    async def undisturbed(self) -> list[tuple[Any, ...]]:
        """What is written of the book where nothing is killed."""
        persona_id = await self.application.create_persona(self.owner)
        source_id = await self.application.add_document(self.owner, persona_id, BOOK)
        # Its jobs were done by hand, and are no worker's.
        await self.rows("DELETE FROM jobs RETURNING id")
        return await self.index(str(source_id))

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        scope = PLATFORM if "job" in statement else self.owner.org_id
        async with self._database.unit_of_work(scope) as session:
            return list((await session.execute(text(statement), values)).all())

    async def workers(self) -> dict[str, Any]:
        answer = await self.application.client.get("/knowledge/workers", headers=self.owner.headers)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def is_worked_for(self) -> bool:
        return bool((await self.workers())["workers"])

    async def has_idle_worker(self) -> bool:
        return [worker["busy"] for worker in (await self.workers())["workers"]] == [False]

    async def unfinished(self) -> int:
        kinds = "kind IN ('knowledge.ingest', 'knowledge.embed')"
        rows = await self.rows(f"SELECT id FROM jobs WHERE {kinds} AND state IN ('queued', 'running')")  # noqa: S608  # from above
        return len(rows)


async def test_a_worker_brings_a_document_to_ready_and_says_goodbye(school: School, workshop: Workshop) -> None:
    source_id = await school.upload()
    waiting = {queue["name"]: queue for queue in (await school.workers())["queues"]}
    assert list(waiting) == list(QUEUES)
    assert (waiting["extraction"]["depth"], waiting["embedding"]["oldest_seconds"]) == (1, None)
    with workshop.worker("--queues", "extraction,embedding,maintenance") as worker:
        ended = await school.wait(source_id, worker)
        assert (ended["status"], ended["searchable"], ended["attempts"]) == ("ready", "full", 1)
        await comes_true(school.has_idle_worker, "the worker is seen, and has told that it is done")
        [seen] = (await school.workers())["workers"]
        assert seen | {"name": ""} == {
            "name": "",
            "queues": ["extraction", "embedding", "maintenance"],
            "alive": True,
            "busy": False,
        }
        assert worker.stop() == 0
    assert not await school.is_worked_for()
    assert list((workshop.data_dir / "work").iterdir()) == []
    assert "lesson" not in worker.output


async def test_a_child_that_is_killed_in_each_stage_costs_attempts_and_nothing_else(
    school: School, workshop: Workshop
) -> None:
    undisturbed = await school.undisturbed()
    source_id = await school.upload()
    points = [Point.CHUNKING, Point.KEYWORD_ROWS, Point.EMBEDDING, Point.VECTOR_ROWS, Point.COMMITTED]
    with workshop.worker(DIE_AT=",".join(points)) as worker:
        ended = await school.wait(source_id, worker)
        await comes_true(lambda: _none(school), "no job is left")
    assert {point.value for point in points} <= {mark.name for mark in workshop.logs.iterdir()}, worker.output
    assert (ended["status"], ended["attempts"]) == ("ready", 3)
    assert await school.index(source_id) == undisturbed
    attempts = await school.rows("SELECT kind, attempts FROM jobs WHERE kind LIKE 'knowledge.%' AND attempts > 1")
    assert {row.kind: row.attempts for row in attempts} == {"knowledge.ingest": 3, "knowledge.embed": 4}


async def _none(school: School) -> bool:
    return await school.unfinished() == 0


async def test_where_the_whole_worker_is_killed_another_goes_on(school: School, workshop: Workshop) -> None:
    undisturbed = await school.undisturbed()
    source_id = await school.upload()
    with workshop.worker(DIE_AT=Point.VECTOR_ROWS, DIE_WITH_WORKER="1") as worker:
        await comes_true(lambda: _is(worker.has_ended()), "the worker is killed")
    assert (await school.status(source_id))["searchable"] == "keyword"
    with workshop.worker() as worker:
        ended = await school.wait(source_id, worker)
    assert (ended["status"], ended["attempts"]) == ("ready", 2)
    assert await school.index(source_id) == undisturbed


async def _is(fact: bool) -> bool:  # noqa: FBT001  # the form of what is waited for
    return fact


async def test_a_redis_that_is_killed_and_comes_back_empty_costs_nothing(
    school: School, workshop: Workshop, redis: RedisServer
) -> None:
    undisturbed = await school.undisturbed()
    first = await school.upload()
    gate = workshop.logs / "gate"
    with workshop.worker(HOLD_AT=Point.EMBEDDING, HOLD_UNTIL=str(gate)) as worker:
        await comes_true(lambda: _is(gate.with_suffix(".reached").exists()), "the first is being embedded")
        others = [await school.upload(BOOK + b" More."), await school.upload(BOOK + b" And more.")]
        redis.stop()
        uploaded_without_redis = await school.upload(BOOK + b" Without Redis.")
        redis.start()
        gate.touch()
        ended = [await school.wait(source_id, worker) for source_id in (first, *others, uploaded_without_redis)]
    assert [(source["status"], source["attempts"]) for source in ended] == [("ready", 1)] * 4
    assert await school.index(first) == undisturbed
    embedded = await school.rows("SELECT attempts FROM jobs WHERE kind IN ('knowledge.ingest', 'knowledge.embed')")
    assert sorted(row.attempts for row in embedded if row.attempts) == [1] * 8


async def test_a_worker_that_is_stopped_gives_back_what_does_not_end_in_time(
    school: School, workshop: Workshop
) -> None:
    async def is_given_back() -> bool:
        [job] = await school.rows("SELECT state, attempts FROM jobs WHERE kind = 'knowledge.embed'")
        return (job.state, job.attempts) == ("queued", 0)

    source_id = await school.upload()
    gate = workshop.logs / "gate"
    with workshop.worker(HOLD_AT=Point.EMBEDDING, HOLD_UNTIL=str(gate), STOP_SECONDS="0.1") as worker:
        await comes_true(lambda: _is(gate.with_suffix(".reached").exists()), "the source is being embedded")
        worker.terminate()
        await comes_true(is_given_back, "the embedding is given back")
        # What holds it is a thread, with which the child waits to end.
        gate.touch()
        assert worker.stop() == 0
    assert (await school.status(source_id))["searchable"] == "keyword"


async def test_a_child_that_cannot_end_its_job_any_more_is_killed_and_another_goes_on(
    school: School, workshop: Workshop
) -> None:
    source_id = await school.upload()
    gate = workshop.logs / "gate"
    with workshop.worker(HOLD_AT=Point.EMBEDDING, HOLD_UNTIL=str(gate), HOLD_LOOP="1", HARD_LIMIT="10") as worker:
        await comes_true(lambda: _is("Hard time limit (10s) exceeded" in worker.output), "a child is killed")
        gate.touch()
        ended = await school.wait(source_id, worker)
    assert ended["status"] == "ready"
    assert ended["attempts"] > 1


async def test_two_beats_ask_for_what_recurs_once_and_a_worker_does_it(school: School, workshop: Workshop) -> None:
    async def all_done() -> bool:
        rows = await school.rows("SELECT kind FROM jobs WHERE state = 'done'")
        return sorted(row.kind for row in rows) == sorted(recurring.kind for recurring in SCHEDULE)

    with workshop.beat() as first, workshop.beat() as second, workshop.worker("--queues", "maintenance"):
        await comes_true(all_done, "all that recurs is done")
        assert [first.stop(), second.stop()] == [0, 0]
    assert len(await school.rows("SELECT id FROM jobs")) == len(SCHEDULE)
