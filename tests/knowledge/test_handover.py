"""From the job that makes a source searchable by keyword to the one that embeds it: nothing falls between the two."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.kit.db import PLATFORM
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.jobs.queues import EMBEDDING, EXTRACTION
from bwenge.knowledge import ingestion, jobs, repository
from tests.knowledge.ingestion_bench import TEXT, Bench


async def asked(bench: Bench) -> list[tuple[str, str, str]]:
    """The jobs of sources, in the order in which they run: kind, queue and state."""
    async with bench.database.superuser() as connection:
        rows = await connection.execute(
            text("SELECT kind, queue, state FROM jobs WHERE ordering_key LIKE 'source:%' ORDER BY id")
        )
        return [(row.kind, row.queue, row.state) for row in rows]


async def ingest(bench: Bench, source_id: UUID, *, attempt: int = 1) -> None:
    await bench.ingestion.ingest(source_id, org_id=bench.owner.org_id, attempt=attempt)


async def embed(bench: Bench, source_id: UUID, *, attempt: int = 1) -> None:
    await bench.ingestion.embed(source_id, org_id=bench.owner.org_id, attempt=attempt)


async def die(bench: Bench, source_id: UUID, kind: str, *, code: str = "internal") -> None:
    (known,) = (known for known in bench.application.platform.knowledge.job_kinds if known.name == kind)
    assert known.on_dead is not None
    job = ClaimedJob(new_id(), kind, bench.owner.org_id, 5, 5, {"source_id": str(source_id)})
    async with bench.database.unit_of_work(PLATFORM) as session:
        await known.on_dead(session, job, code)


async def shown(bench: Bench, source_id: UUID, *names: str) -> tuple[Any, ...]:
    status = await bench.status(source_id)
    return tuple(status[name] for name in names)


async def test_the_transaction_that_makes_a_source_searchable_by_keyword_asks_for_its_embedding(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id, attempt=3)
    assert await asked(bench) == [(jobs.INGEST, EXTRACTION, "queued"), (jobs.EMBED, EMBEDDING, "queued")]
    names = ("status", "stage", "searchable", "attempts", "queue_position", "eta_seconds")
    assert await shown(bench, source_id, *names) == ("processing", "embedding", "keyword", 0, None, None)


async def test_where_the_keyword_index_is_not_committed_nothing_is_asked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_off(*_given: Any, **_named: Any) -> None:
        raise ConnectionError("the database went away")

    source_id = await bench.upload(TEXT)
    monkeypatch.setattr(repository, "find_claimed", break_off)
    with pytest.raises(ConnectionError):
        await ingest(bench, source_id)
    assert await asked(bench) == [(jobs.INGEST, EXTRACTION, "queued")]


async def test_attempts_are_those_of_the_present_stages_job(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id, attempt=2)
    await embed(bench, source_id, attempt=1)
    assert await shown(bench, source_id, "status", "attempts") == ("ready", 1)


async def test_an_ingestion_that_comes_again_asks_for_no_second_embedding_and_disturbs_none(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id)
    bench.embedder.error = ConnectionError("the embedder is away")
    with pytest.raises(ConnectionError):
        await embed(bench, source_id, attempt=2)
    await ingest(bench, source_id, attempt=2)
    assert len(await asked(bench)) == 2
    assert await shown(bench, source_id, "status", "attempts") == ("processing", 2)


async def test_an_ingestion_of_a_source_that_is_searchable_by_keyword_hands_over_and_reads_nothing_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade from one job to two, in the middle of a source, or where embedding failed for good."""
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id)
    async with bench.database.superuser() as connection:
        await connection.execute(text("DELETE FROM jobs WHERE kind = 'knowledge.embed'"))
        await connection.execute(text("UPDATE knowledge_sources SET attempts = 4, run = 0"))
    monkeypatch.setattr(ingestion, "extract", None)
    await ingest(bench, source_id, attempt=5)
    assert (jobs.EMBED, EMBEDDING, "queued") in await asked(bench)
    await embed(bench, source_id)
    assert await shown(bench, source_id, "status", "attempts") == ("ready", 1)


async def test_an_embedding_does_nothing_to_a_source_that_has_no_text_yet(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await embed(bench, source_id)
    assert await shown(bench, source_id, "status", "stage", "attempts") == ("pending", "queued", 0)


async def test_a_run_of_the_embedding_that_lost_its_claim_does_nothing(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id)
    bench.embedder.error = ConnectionError("the embedder is away")
    with pytest.raises(ConnectionError):
        await embed(bench, source_id, attempt=2)
    bench.embedder.error = None
    await embed(bench, source_id, attempt=1)
    assert await shown(bench, source_id, "status", "attempts") == ("processing", 2)


async def test_the_death_of_an_ingestion_that_had_handed_over_harms_nothing(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id)
    await die(bench, source_id, jobs.INGEST)
    assert len(await asked(bench)) == 2
    await embed(bench, source_id)
    assert await shown(bench, source_id, "status", "searchable") == ("ready", "full")


async def test_the_death_of_an_ingestion_of_before_hands_over(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id)
    async with bench.database.superuser() as connection:
        await connection.execute(text("DELETE FROM jobs"))
    await die(bench, source_id, jobs.INGEST)
    assert await asked(bench) == [(jobs.EMBED, EMBEDDING, "queued")]


@pytest.mark.parametrize(
    ("kind", "code", "shown_as"),
    [
        (jobs.INGEST, "timed_out", "timed_out"),
        (jobs.INGEST, "internal", "worker_lost"),
        (jobs.INGEST, "storage_failed", "storage_failed"),
        (jobs.EMBED, "timed_out", "embedding_failed"),
        (jobs.EMBED, "worker_lost", "embedding_failed"),
        (jobs.EMBED, "storage_failed", "storage_failed"),
    ],
)
async def test_a_source_says_why_its_job_is_dead(bench: Bench, kind: str, code: str, shown_as: str) -> None:
    source_id = await bench.upload(TEXT)
    if kind == jobs.EMBED:
        await ingest(bench, source_id)
    await die(bench, source_id, kind, code=code)
    assert await shown(bench, source_id, "status", "stage", "error_code") == ("failed", "done", shown_as)


async def test_whoever_still_embeds_a_source_that_failed_and_began_anew_writes_no_more(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await ingest(bench, source_id)
    async with bench.database.unit_of_work(bench.owner.org_id) as session:
        zombie = await repository.find_source(session, source_id, org_id=bench.owner.org_id)
    assert zombie is not None
    await die(bench, source_id, jobs.EMBED)
    await bench.upload(TEXT)
    await ingest(bench, source_id)
    async with bench.database.unit_of_work(bench.owner.org_id) as session:
        values = {"stage": "indexing"}
        assert not await repository.update_source(
            session, source_id, org_id=bench.owner.org_id, run=zombie.run, values=values
        )
