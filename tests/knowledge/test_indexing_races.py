"""An index that is being written, and what happens to its source meanwhile, on connections that really commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.kit.db import Database
from bwenge.knowledge import ingestion, repository
from bwenge.knowledge.parsing.base import FailureCode, ParseFailure
from bwenge.knowledge.parsing.sandbox import extract
from tests.support.application import Application, Person, open_application

TEXT = b"The fare from Kigali to Huye is 3,200 francs."
WRITERS = pytest.mark.parametrize("writer", ["replace_keyword_index", "replace_vectors"])


@pytest.fixture
async def application(committed_database: Database, tmp_path: Path) -> AsyncIterator[Application]:
    async with open_application(committed_database, tmp_path) as application:
        yield application


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def source_id(application: Application, owner: Person) -> UUID:
    answer = await application.upload(owner, await application.create_persona(owner), TEXT)
    return UUID(answer.json()["source_id"])


async def count(application: Application, owner: Person, table: str) -> int:
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        rows: int = await session.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608  # named below
        return rows


async def delete(application: Application, owner: Person, source_id: UUID) -> int:
    answer = await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    return answer.status_code


async def run(application: Application, owner: Person, source_id: UUID, *, attempt: int) -> None:
    ingestion = application.platform.knowledge.ingestion
    await ingestion.ingest(source_id, org_id=owner.org_id, attempt=attempt)
    await ingestion.embed(source_id, org_id=owner.org_id, attempt=attempt)


class Held:
    """Holds the first call of a function of the repository, after it has done its work or before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, *, before: bool = False) -> None:
        self.reached, self.released = asyncio.Event(), asyncio.Event()
        original: Callable[..., Awaitable[Any]] = getattr(repository, name)

        async def held(*given: Any, **named: Any) -> Any:
            if before:
                await self._hold()
            result = await original(*given, **named)
            if not before:
                await self._hold()
            return result

        monkeypatch.setattr(repository, name, held)

    async def _hold(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await self.released.wait()


@WRITERS
async def test_a_deletion_does_not_wait_for_the_index_that_is_being_written(
    application: Application, owner: Person, source_id: UUID, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    written = Held(monkeypatch, writer)
    running = asyncio.create_task(run(application, owner, source_id, attempt=1))
    await written.reached.wait()
    assert await asyncio.wait_for(delete(application, owner, source_id), timeout=20) == 204
    written.released.set()
    await running
    assert await count(application, owner, "chunk_vectors") == 0
    assert await count(application, owner, "knowledge_chunks") == (0 if writer == "replace_keyword_index" else 1)


@WRITERS
async def test_a_source_that_is_purged_before_its_index_is_written_ends_the_run_quietly(
    application: Application, owner: Person, source_id: UUID, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    stored = await application.platform.knowledge.sources.find_file(source_id, org_id=owner.org_id)
    about_to_write = Held(monkeypatch, writer, before=True)
    running = asyncio.create_task(run(application, owner, source_id, attempt=1))
    await about_to_write.reached.wait()
    await delete(application, owner, source_id)
    await application.platform.knowledge.removal.purge(source_id, stored.key)
    about_to_write.released.set()
    await running
    for table in ("knowledge_sources", "knowledge_chunks", "postings", "chunk_vectors"):
        assert await count(application, owner, table) == 0, table


@WRITERS
async def test_a_run_whose_source_another_run_has_taken_over_writes_nothing(
    application: Application, owner: Person, source_id: UUID, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    about_to_write = Held(monkeypatch, writer, before=True)
    stale = asyncio.create_task(run(application, owner, source_id, attempt=1))
    await about_to_write.reached.wait()
    await run(application, owner, source_id, attempt=2)
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        chunk_ids = (await session.execute(text("SELECT id FROM knowledge_chunks"))).scalars().all()
    about_to_write.released.set()
    await stale
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        assert (await session.execute(text("SELECT id FROM knowledge_chunks"))).scalars().all() == chunk_ids
        state = (await session.execute(text("SELECT status, searchable, attempts FROM knowledge_sources"))).one()
        assert await session.scalar(text("SELECT count(*) FROM chunk_vectors")) == 1
    assert tuple(state) == ("ready", "full", 2)


async def test_a_run_that_lost_its_claim_neither_fails_the_source_nor_removes_the_other_runs_files(
    application: Application, owner: Person, source_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def held_then_failing(path: Path, *given: Any, **named: Any) -> Any:
        if not path.parent.name.endswith("-1"):
            released.set()
            await stale
            return await extract(path, *given, **named)
        reached.set()
        await released.wait()
        raise ParseFailure(FailureCode.UNREADABLE, "The file cannot be read")

    monkeypatch.setattr(ingestion, "extract", held_then_failing)
    stale = asyncio.create_task(run(application, owner, source_id, attempt=1))
    await reached.wait()
    await run(application, owner, source_id, attempt=2)
    answer = await application.client.get(f"/knowledge/{source_id}/status", headers=owner.headers)
    assert (answer.json()["status"], answer.json()["error_code"]) == ("ready", None)
