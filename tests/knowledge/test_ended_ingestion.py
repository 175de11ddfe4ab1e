"""What ends a source before its time: failures that do not pass, and its deletion."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID

import pytest
from psycopg.errors import DiskFull
from sqlalchemy.exc import OperationalError

from bwenge.kit.db import PLATFORM
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.knowledge import ingestion, jobs, repository
from bwenge.knowledge.errors import StorageFull
from bwenge.knowledge.parsing.base import FailureCode, ParseFailure
from tests.knowledge.ingestion_bench import TEXT, Bench


async def bury(bench: Bench, source_id: UUID, *, kind: str = jobs.INGEST, code: str = "internal") -> None:
    (known,) = (known for known in bench.application.platform.knowledge.job_kinds if known.name == kind)
    assert known.on_dead is not None
    job = ClaimedJob(new_id(), kind, bench.owner.org_id, 5, 5, {"source_id": str(source_id)})
    async with bench.database.unit_of_work(PLATFORM) as session:
        await known.on_dead(session, job, code)


async def test_a_source_whose_embedding_never_succeeds_stays_searchable_by_keyword(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    bench.embedder.error = ConnectionError("the embedder is away")
    with pytest.raises(ConnectionError):
        await bench.run(source_id, attempt=5)
    await bury(bench, source_id, kind=jobs.EMBED)
    status = await bench.status(source_id)
    assert (status["status"], status["error_code"], status["searchable"]) == ("failed", "embedding_failed", "keyword")
    assert [hit["source_id"] for hit in await bench.search("fare to Huye")] == [str(source_id)]


async def test_a_source_whose_reading_never_succeeds_says_that_its_worker_was_lost(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await bury(bench, source_id)
    status = await bench.status(source_id)
    assert (status["status"], status["stage"], status["error_code"]) == ("failed", "done", "worker_lost")


def no_room(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room_in_the_process(*_: Any, **__: Any) -> NoReturn:
    raise ParseFailure(FailureCode.STORAGE_FAILED, "There was no room")


def no_room_in_postgresql(*_: Any, **__: Any) -> NoReturn:
    raise OperationalError("INSERT", {}, DiskFull("could not extend file"))


@pytest.mark.parametrize(
    ("place", "failing"),
    [
        ("bwenge.kit.blobs.store.BlobStore.fetch", no_room),
        ("bwenge.knowledge.ingestion.extract", no_room_in_the_process),
        ("bwenge.knowledge.spool.pickle.dump", no_room),
        ("bwenge.knowledge.repository.replace_keyword_index", no_room_in_postgresql),
    ],
)
async def test_on_a_full_disk_a_document_is_tried_again_and_in_the_end_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str, failing: Callable[..., NoReturn]
) -> None:
    source_id = await bench.upload(TEXT)
    monkeypatch.setattr(place, failing)
    with pytest.raises(StorageFull) as failure:
        await bench.run(source_id)
    assert (await bench.status(source_id))["status"] == "processing"
    await bury(bench, source_id, code=failure.value.code)
    status = await bench.status(source_id)
    assert (status["status"], status["error_code"]) == ("failed", "storage_failed")


@pytest.mark.parametrize("content", [TEXT, b""])
async def test_a_source_that_has_ended_is_not_changed_by_its_jobs_death(bench: Bench, content: bytes) -> None:
    source_id = await bench.upload(content)
    await bench.run(source_id)
    before = await bench.status(source_id)
    await bury(bench, source_id)
    assert await bench.status(source_id) == before


async def delete(bench: Bench, source_id: UUID) -> None:
    answer = await bench.application.client.delete(f"/knowledge/{source_id}", headers=bench.owner.headers)
    assert answer.status_code == 204


async def test_a_deletion_ends_the_embedding_that_it_finds_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "REPORT_SECONDS", 0.01)
    source_id = await bench.upload(TEXT)
    bench.embedder.may_end.clear()
    run = asyncio.create_task(bench.run(source_id))
    await bench.embedder.begun.wait()
    await delete(bench, source_id)
    await asyncio.wait_for(run, timeout=30)  # though the embedder never returns
    assert await bench.search("fare") == []
    assert await bench.count("chunk_vectors") == 0


async def test_a_deletion_ends_the_extraction_that_it_finds_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def endless(*_given: Any, **_named: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ingestion, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr(ingestion, "extract", endless)
    source_id = await bench.upload(TEXT)
    run = asyncio.create_task(bench.run(source_id))
    await begun.wait()
    await delete(bench, source_id)
    await asyncio.wait_for(run, timeout=30)
    assert await bench.count("knowledge_chunks") == 0


@pytest.mark.parametrize("moment", ["replace_keyword_index", "replace_vectors"])
async def test_a_deletion_just_before_the_index_is_committed_leaves_nothing_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Nothing lies between the check and the commit: the source's row is locked in between."""
    source_id = await bench.upload(TEXT)
    find: Callable[..., Any] = repository.find_claimed
    stage = {"replace_keyword_index": "chunking", "replace_vectors": "indexing"}[moment]

    async def deleting_first(session: Any, *given: Any, **named: Any) -> Any:
        source = await find(session, *given, **named)
        if source is not None and source.stage == stage:
            await repository.bury_source(session, source)
            return await find(session, *given, **named)
        return source

    monkeypatch.setattr(repository, "find_claimed", deleting_first)
    await bench.run(source_id)
    assert await bench.count("chunk_vectors") == 0
    assert (await bench.count("knowledge_chunks")) == (0 if moment == "replace_keyword_index" else 1)


async def test_a_ready_source_that_is_purged_leaves_nothing_behind(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await bench.run(source_id)
    stored = await bench.application.platform.knowledge.sources.find_file(source_id, org_id=bench.owner.org_id)
    await delete(bench, source_id)
    await bench.application.platform.knowledge.removal.purge(source_id, stored.key)
    await bench.application.platform.knowledge.removal.remove_file(stored.key)
    for table in ("knowledge_sources", "knowledge_chunks", "postings", "chunk_vectors", "blobs", "blob_references"):
        assert await bench.count(table) == 0, table


async def test_a_source_that_was_not_deleted_is_not_purged(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await bench.run(source_id)
    stored = await bench.application.platform.knowledge.sources.find_file(source_id, org_id=bench.owner.org_id)
    await bench.application.platform.knowledge.removal.purge(source_id, stored.key)
    assert (await bench.status(source_id))["status"] == "ready"
    assert [hit["source_id"] for hit in await bench.search("fare")] == [str(source_id)]
