"""One source from its file to `ready` or to `failed` with the reason, with real extraction on small files."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queue import BACKOFF_LIMIT, ClaimedJob, NewJob
from bwenge.knowledge import ingestion, jobs, repository
from bwenge.knowledge.parsing.base import FailureCode, ParseFailure
from bwenge.knowledge.parsing.sandbox import ExtractionLimits
from tests.knowledge.ingestion_bench import TEXT, Bench, pdf


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is written of sources while they are worked on, in order."""
    seen: list[dict[str, Any]] = []
    update = repository.update_source

    async def noting(*given: Any, values: dict[str, Any], **named: Any) -> bool:
        seen.append(values)
        return await update(*given, values=values, **named)

    monkeypatch.setattr(repository, "update_source", noting)
    return seen


async def test_a_source_goes_through_its_stages_in_order(bench: Bench, writes: list[dict[str, Any]]) -> None:
    await bench.run(await bench.upload(TEXT))
    assert [values["stage"] for values in writes if "stage" in values] == [
        "extracting",
        "chunking",
        "embedding",
        "indexing",
    ]


async def test_progress_only_rises(bench: Bench, writes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "REPORT_SECONDS", 0.001)
    monkeypatch.setattr(ingestion, "EMBEDDING_BATCH", 1)
    source_id = await bench.upload(b" ".join(b"Sentence %d of a long lesson." % n for n in range(900)))
    await bench.run(source_id)
    reported = [values["progress"] for values in writes if "progress" in values]
    assert reported == sorted(reported)
    assert len(set(reported)) > 4  # more than the beginnings of the stages
    assert (await bench.status(source_id))["progress"] == 1.0


async def test_a_pdf_tells_its_pages(bench: Bench) -> None:
    source_id = await bench.upload(pdf("The well is deep.", "The road is long.", "The market is wide."))
    await bench.run(source_id)
    status = await bench.status(source_id)
    assert (status["page_count"], status["units_done"], status["units_total"]) == (3, 3, 3)


async def test_a_text_has_no_pages(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    await bench.run(source_id)
    assert (await bench.status(source_id))["page_count"] is None


async def test_a_ready_source_names_the_languages_of_its_passages_and_the_model_of_its_vectors(bench: Bench) -> None:
    await bench.run(await bench.upload(TEXT))
    async with bench.database.superuser() as connection:
        source = (await connection.execute(text("SELECT languages, embedding_model FROM knowledge_sources"))).one()
    assert tuple(source) == (["en"], "fake-bag-of-words")


async def test_a_ready_source_has_chunks_postings_and_vectors(bench: Bench) -> None:
    await bench.run(await bench.upload(TEXT))
    assert await bench.count("knowledge_chunks") == 1
    assert await bench.count("chunk_vectors") == 1
    assert await bench.count("postings") == len({"fare", "kigali", "huye", "3", "200", "franc"})


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", b"", "empty_file"),
        ("a.txt", b"  \n\n  ", "no_text"),
        ("a.pdf", pdf("The well is deep.")[:150], "unreadable"),
        ("a.pdf", pdf("The well is deep.", password="ibanga"), "encrypted"),
        ("a.pdf", pdf(""), "no_text"),
    ],
)
async def test_a_file_that_yields_nothing_fails_with_its_reason_in_words(
    bench: Bench, name: str, content: bytes, code: str
) -> None:
    source_id = await bench.upload(content, name=name)
    await bench.run(source_id)
    status = await bench.status(source_id)
    assert (status["status"], status["stage"], status["searchable"]) == ("failed", "done", "none")
    assert status["error_code"] == code
    assert status["error_message"]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ExtractionLimits(output_bytes=100), "too_large"),
        (ExtractionLimits(max_blocks=3), "too_complex"),
        (ExtractionLimits(wall_seconds=0.001), "timed_out"),
    ],
)
async def test_a_file_beyond_the_limits_fails_by_itself(bench: Bench, limits: ExtractionLimits, code: str) -> None:
    bench.ingestion._limits = limits
    source_id = await bench.upload(b"\n\n".join(b"Paragraph %d of many." % n for n in range(50)))
    await bench.run(source_id)
    assert (await bench.status(source_id))["error_code"] == code


async def test_a_lost_extraction_process_is_a_failed_attempt_and_not_a_failed_source(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_given: Any, **_named: Any) -> None:
        raise ParseFailure(FailureCode.WORKER_LOST, "The reading process died.")

    source_id = await bench.upload(TEXT)
    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "extract", lost)
        with pytest.raises(ParseFailure):
            await bench.run(source_id)
    assert (await bench.status(source_id))["status"] == "processing"
    await bench.run(source_id, attempt=2)
    status = await bench.status(source_id)
    assert (status["status"], status["attempts"]) == ("ready", 2)


async def test_a_file_that_the_store_lost_fails_as_storage(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    stored = await bench.application.platform.knowledge.sources.find_file(source_id, org_id=bench.owner.org_id)
    await bench.application.platform.resources.blobs.delete(stored.key)
    await bench.run(source_id)
    assert (await bench.status(source_id))["error_code"] == "storage_failed"


async def test_a_file_that_the_store_damaged_fails_as_storage_and_is_not_read(bench: Bench, tmp_path: Path) -> None:
    source_id = await bench.upload(TEXT)
    stored = await bench.application.platform.knowledge.sources.find_file(source_id, org_id=bench.owner.org_id)
    (tmp_path / "blobs" / stored.key.path).write_bytes(TEXT.replace(b"3,200", b"9,999"))
    await bench.run(source_id)
    status = await bench.status(source_id)
    assert (status["status"], status["error_code"]) == ("failed", "storage_failed")
    assert await bench.count("knowledge_chunks") == 0


async def test_a_source_that_is_ready_is_not_worked_on_again(bench: Bench, writes: list[dict[str, Any]]) -> None:
    source_id = await bench.upload(TEXT)
    await bench.run(source_id)
    writes.clear()
    await bench.run(source_id, attempt=2)
    assert writes == []
    assert (await bench.status(source_id))["attempts"] == 1


async def test_a_source_that_failed_is_not_worked_on_again(bench: Bench, writes: list[dict[str, Any]]) -> None:
    source_id = await bench.upload(b"")
    await bench.run(source_id)
    writes.clear()
    await bench.run(source_id, attempt=2)
    assert writes == []


async def test_a_run_that_begins_after_its_claim_was_lost_does_nothing(
    bench: Bench, writes: list[dict[str, Any]]
) -> None:
    source_id = await bench.upload(TEXT)
    bench.embedder.error = ConnectionError("the embedder is away")
    with pytest.raises(ConnectionError):
        await bench.run(source_id, attempt=2)
    writes.clear()
    await bench.run(source_id, attempt=1)
    assert writes == []
    assert (await bench.status(source_id))["attempts"] == 2


async def test_an_unknown_source_is_no_work(bench: Bench, writes: list[dict[str, Any]]) -> None:
    await bench.run(new_id())
    assert writes == []


async def test_text_is_found_by_keyword_while_its_vectors_are_still_made(bench: Bench) -> None:
    source_id = await bench.upload(TEXT)
    bench.embedder.may_end.clear()
    run = asyncio.create_task(bench.run(source_id))
    await bench.embedder.begun.wait()
    status = await bench.status(source_id)
    assert (status["status"], status["stage"], status["searchable"]) == ("processing", "embedding", "keyword")
    (hit,) = await bench.search("fare to Huye")
    assert (hit["dense_score"], hit["bm25_score"] > 0) == (0.0, True)
    bench.embedder.may_end.set()
    await run
    assert (await bench.search("fare to Huye"))[0]["dense_score"] > 0


async def test_an_embedder_that_fails_is_a_failed_attempt_whose_repeat_parses_nothing_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_id = await bench.upload(TEXT)
    bench.embedder.error = ConnectionError("the embedder is away")
    with pytest.raises(ConnectionError):
        await bench.run(source_id)
    assert (await bench.status(source_id))["searchable"] == "keyword"
    chunk_id = (await bench.search("fare"))[0]["chunk_id"]
    bench.embedder.error = None
    monkeypatch.setattr(ingestion, "extract", None)
    await bench.run(source_id, attempt=2)
    assert (await bench.status(source_id))["status"] == "ready"
    assert (await bench.search("fare"))[0]["chunk_id"] == chunk_id


async def test_progress_that_cannot_be_written_does_not_end_the_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "REPORT_SECONDS", 0.001)
    update, failed = repository.update_source, asyncio.Event()

    async def away(*given: Any, values: dict[str, Any], **named: Any) -> bool:
        if "stage" not in values and "progress" in values:
            failed.set()
            raise ConnectionError("PostgreSQL is away")
        return await update(*given, values=values, **named)

    monkeypatch.setattr(repository, "update_source", away)
    source_id = await bench.upload(TEXT)
    bench.embedder.may_end.clear()
    run = asyncio.create_task(bench.run(source_id))
    await bench.embedder.begun.wait()
    failed.clear()
    await failed.wait()
    bench.embedder.may_end.set()
    await run
    assert (await bench.status(source_id))["status"] == "ready"


async def test_a_job_names_its_source_and_its_organisation(bench: Bench) -> None:
    source_id = new_id()
    asked = jobs.ingest(source_id, org_id=bench.owner.org_id)
    job = ClaimedJob(new_id(), jobs.INGEST, bench.owner.org_id, 1, 5, asked.payload)
    assert (jobs.source_id_of(job), jobs.org_id_of(job)) == (source_id, bench.owner.org_id)


def test_a_purge_waits_for_the_ingestion_of_the_same_source() -> None:
    source_id, key = new_id(), BlobKey(new_id(), "0" * 64)
    assert jobs.purge(source_id, key).ordering_key == jobs.ingest(source_id, org_id=key.org_id).ordering_key


def test_removals_of_one_file_follow_each_other() -> None:
    key = BlobKey(new_id(), "0" * 64)
    assert jobs.remove_file(key).ordering_key == jobs.finish_removal(key).ordering_key is not None
    assert jobs.remove_file(key).ordering_key != jobs.remove_file(BlobKey(key.org_id, "1" * 64)).ordering_key


@pytest.mark.parametrize(
    "job",
    [
        jobs.purge(new_id(), BlobKey(new_id(), "0" * 64)),
        jobs.sweep_file(BlobKey(new_id(), "0" * 64)),
        jobs.remove_file(BlobKey(new_id(), "0" * 64)),
        jobs.finish_removal(BlobKey(new_id(), "0" * 64)),
    ],
    ids=lambda job: job.kind,
)
def test_a_removal_outlasts_a_store_that_is_away_for_hours(job: NewJob) -> None:
    waits = [min(2.0**attempt, BACKOFF_LIMIT.total_seconds()) for attempt in range(1, job.max_attempts)]
    assert sum(waits) > 2 * 60 * 60


def test_a_job_without_an_organisation_is_refused() -> None:
    with pytest.raises(ValueError, match="names no organisation"):
        jobs.org_id_of(ClaimedJob(new_id(), jobs.PURGE, None, 1, 5, {}))
