"""From an uploaded file to searchable chunks: the stages of one source, each of which may be killed and run again.

Two jobs share them. The first makes the text searchable by keyword and asks for the second in the same transaction; the
second adds the vectors. One that finds its work done goes no further than to hand over.

What a stage makes waits on disk for the next, so that a text of any length takes as much memory as a chapter of it.
A run that has lost its claim may go on for a while beside the one that has it now. So each write asks that the source
is still this run's, and its files lie in a folder of its own.
"""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import structlog
from psycopg.errors import DiskFull
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.blobs.store import BlobKey, BlobMissing, BlobStore
from bwenge.kit.db import Database
from bwenge.knowledge import repository
from bwenge.knowledge.chunking import chunk_blocks
from bwenge.knowledge.errors import SourceChanged, StorageFull
from bwenge.knowledge.handover import hand_over
from bwenge.knowledge.index_rows import IndexSegment, IndexTotals, VectorBatch, index_segments
from bwenge.knowledge.models import KnowledgeSource
from bwenge.knowledge.parsing.base import NO_ROOM, Block, FailureCode, MediaType, ParseFailure
from bwenge.knowledge.parsing.sandbox import Extraction, ExtractionLimits, extract
from bwenge.knowledge.spool import Spool
from bwenge.knowledge.stages import STAGE_SHARE
from bwenge.providers.embedding.base import Embedder
from bwenge.providers.embedding.windows import split_windows

_log = structlog.get_logger(__name__)

REPORT_SECONDS: Final = 0.5
EMBEDDING_BATCH: Final = 16
"""Chunks embedded at a time, of two or three windows each."""


@dataclass(slots=True)
class _Advance:
    """How far a stage has come; read by the reporter, written by the work."""

    done: int = 0
    total: int | None = None


class SourceIngestion:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        embedder: Embedder,
        *,
        work_dir: Path,
        limits: ExtractionLimits,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._embedder = embedder
        self._work_dir = work_dir
        self._limits = limits

    async def ingest(self, source_id: UUID, *, org_id: UUID, attempt: int) -> None:
        """Make the source searchable by keyword and ask for its embedding, or bring it to `failed` with the reason.

        Where it is searchable by keyword already, its embedding is all that is asked for; where it has ended, nothing.

        Raises:
            StorageFull: the disk is full.
            Exception: what else may pass if it is tried again (a lost extraction process, the database).
        """
        async with self._database.unit_of_work(org_id) as session:
            source = await repository.find_source(session, source_id, org_id=org_id, lock=True)
            if source is None or source.status in {"ready", "failed"}:
                return
            if source.searchable != "none":
                await hand_over(session, source)
                return
            if attempt < source.attempts:
                return
            _begin(source, attempt=attempt)
        await self._do(self._make_keyword_searchable, source)

    async def embed(self, source_id: UUID, *, org_id: UUID, attempt: int) -> None:
        """Bring a source that is searchable by keyword to `ready`; do nothing to one that is not, or that has ended.

        Raises:
            StorageFull: the disk is full.
            Exception: what else may pass if it is tried again (the embedder, the database).
        """
        async with self._database.unit_of_work(org_id) as session:
            source = await repository.find_source(session, source_id, org_id=org_id, lock=True)
            has_begun = source is not None and source.status == "processing" and source.searchable == "keyword"
            if source is None or not has_begun or attempt < source.attempts:
                return
            _begin(source, attempt=attempt)
        await self._do(self._make_fully_searchable, source)

    async def _do(self, work: Callable[[KnowledgeSource], Awaitable[None]], source: KnowledgeSource) -> None:
        try:
            await self._or_fail(work, source)
        except SourceChanged:
            _log.info("source_changed_meanwhile", source_id=str(source.id), run=source.run)
        except (ParseFailure, OSError, OperationalError) as error:
            if _is_for_want_of_room(error):
                raise StorageFull from error
            raise

    async def _or_fail(self, work: Callable[[KnowledgeSource], Awaitable[None]], source: KnowledgeSource) -> None:
        try:
            await work(source)
        except ParseFailure as failure:
            if failure.code in {FailureCode.WORKER_LOST, FailureCode.STORAGE_FAILED}:
                raise
            await self._fail(source, code=failure.code.value, message=failure.message)
        except BlobMissing:
            message = "The stored file is missing or damaged; upload it again"
            await self._fail(source, code="storage_failed", message=message)

    async def _make_keyword_searchable(self, source: KnowledgeSource) -> None:
        async with self._work_folder(source) as folder:
            extraction = await self._extract(source, folder)
            with Spool[IndexSegment](folder) as segments:
                totals = await self._chunk(source, extraction, segments)
                if totals.chunk_count == 0:
                    raise ParseFailure(FailureCode.NO_TEXT, "The document holds no text that could be read")
                await self._write_keyword_index(source, extraction, segments, totals)

    async def _write_keyword_index(
        self, source: KnowledgeSource, extraction: Extraction, segments: Spool[IndexSegment], totals: IndexTotals
    ) -> None:
        async with self._indexing(source) as session:
            await repository.replace_keyword_index(session, source, segments.pieces())
            current = await _still_claimed(session, source)
            current.searchable = "keyword"
            current.chunk_count = totals.chunk_count
            current.token_count = totals.token_count
            current.term_count = totals.term_count
            current.language = totals.language
            current.languages = totals.languages
            current.page_count = extraction.page_count
            current.warnings = [warning.as_dict() for warning in extraction.warnings]
            await hand_over(session, current)

    @contextlib.asynccontextmanager
    async def _work_folder(self, source: KnowledgeSource) -> AsyncIterator[Path]:
        """An empty folder of this run's own, as long as the block lasts."""
        folder = self._work_dir / f"{source.id}-{source.run}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _extract(self, source: KnowledgeSource, folder: Path) -> Extraction:
        await self._enter(source, "extracting")
        original = folder / "original"
        await self._blobs.fetch(BlobKey(source.org_id, source.sha256), original)
        advance = _Advance()

        def note(done: int, total: int) -> None:
            advance.done, advance.total = done, total

        async with self._reporting(source, "extracting", advance):
            extraction = await extract(
                original, MediaType(source.type), work_dir=folder, limits=self._limits, on_progress=note
            )
        await self._write(source, {"units_done": extraction.units_total, "units_total": extraction.units_total})
        return extraction

    async def _chunk(
        self, source: KnowledgeSource, extraction: Extraction, segments: Spool[IndexSegment]
    ) -> IndexTotals:
        await self._enter(source, "chunking")
        advance = _Advance(total=extraction.block_count)
        abandoned = threading.Event()

        def fill() -> IndexTotals:
            totals = IndexTotals()
            # The model is loaded on this thread, where it was not yet.
            blocks = _counted(extraction.blocks(), advance, abandoned)
            for segment in index_segments(chunk_blocks(blocks, self._embedder.tokenizer)):
                segments.add(segment)
                totals.add(segment)
            return totals

        async with self._reporting(source, "chunking", advance):
            try:
                return await asyncio.to_thread(fill)
            finally:
                abandoned.set()

    async def _make_fully_searchable(self, source: KnowledgeSource) -> None:
        async with self._work_folder(source) as folder:
            with Spool[VectorBatch](folder) as batches:
                await self._enter(source, "embedding")
                await self._embed(source, batches)
                await self._enter(source, "indexing")
                await self._write_vectors(source, batches)

    async def _write_vectors(self, source: KnowledgeSource, batches: Spool[VectorBatch]) -> None:
        async with self._indexing(source) as session:
            await repository.replace_vectors(session, source, batches.pieces())
            current = await _still_claimed(session, source)
            current.searchable = "full"
            current.embedding_model = self._embedder.name
            current.status = "ready"
            current.stage = "done"
            current.progress = 1.0
            current.error_code = current.error_message = None

    @contextlib.asynccontextmanager
    async def _indexing(self, source: KnowledgeSource) -> AsyncIterator[AsyncSession]:
        """A transaction that writes an index first, and locks the source only to commit: nobody waits for an index.

        Raises:
            SourceChanged: the source was purged meanwhile, or another run has written its index.
        """
        try:
            async with self._database.unit_of_work(source.org_id) as session:
                yield session
        except IntegrityError:
            async with self._database.unit_of_work(source.org_id) as session:
                await _still_claimed(session, source)
            raise

    def _split(self, texts: Sequence[tuple[UUID, str]]) -> list[tuple[UUID, int, str]]:
        tokenizer, limit = self._embedder.tokenizer, self._embedder.max_tokens
        return [
            (chunk_id, number, window)
            for chunk_id, text in texts
            for number, window in enumerate(split_windows(text, tokenizer, limit))
        ]

    async def _embed(self, source: KnowledgeSource, batches: Spool[VectorBatch]) -> None:
        advance = _Advance(total=source.chunk_count)
        async with self._reporting(source, "embedding", advance):
            for start in range(0, source.chunk_count, EMBEDDING_BATCH):
                async with self._database.unit_of_work(source.org_id) as session:
                    texts = await repository.chunk_texts(
                        session, source.id, org_id=source.org_id, start=start, count=EMBEDDING_BATCH
                    )
                windows = await asyncio.to_thread(self._split, texts)
                vectors = await self._embedder.embed_documents([text for _, _, text in windows])
                batch = VectorBatch(
                    [chunk_id for chunk_id, _, _ in windows],
                    [number for _, number, _ in windows],
                    vectors.astype(np.float16),
                )
                await asyncio.to_thread(batches.add, batch)
                advance.done += len(texts)

    async def _enter(self, source: KnowledgeSource, stage: str) -> None:
        await self._write(
            source, {"stage": stage, "progress": STAGE_SHARE[stage][0], "stage_started_at": func.clock_timestamp()}
        )

    @contextlib.asynccontextmanager
    async def _reporting(self, source: KnowledgeSource, stage: str, advance: _Advance) -> AsyncIterator[None]:
        """Write progress twice a second while the block runs, and cancel the block once the source is deleted.

        Raises:
            SourceChanged: the source was deleted meanwhile.
        """
        until_gone, ended = asyncio.timeout(None), asyncio.Event()
        reporter = asyncio.create_task(self._report(source, stage, advance, until_gone=until_gone, ended=ended))
        try:
            async with until_gone:
                yield
        except TimeoutError as error:
            if not until_gone.expired():
                raise
            raise SourceChanged from error
        finally:
            # Told and not cancelled: a query that is cancelled costs its connection.
            ended.set()
            await reporter

    async def _report(
        self,
        source: KnowledgeSource,
        stage: str,
        advance: _Advance,
        *,
        until_gone: asyncio.Timeout,
        ended: asyncio.Event,
    ) -> None:
        start, end = STAGE_SHARE[stage]
        while not await _happens(ended, within=REPORT_SECONDS):
            share = advance.done / advance.total if advance.total else 0.0
            values: dict[str, Any] = {"progress": start + share * (end - start)}
            if stage == "extracting":
                values |= {"units_done": advance.done, "units_total": advance.total}
            try:
                await self._write(source, values)
            except SourceChanged:
                if not ended.is_set():
                    until_gone.reschedule(asyncio.get_running_loop().time())
                return
            except Exception:  # noqa: BLE001  # PostgreSQL may be away for a moment; the work itself finds out by its own writes
                _log.warning("progress_not_written", source_id=str(source.id), exc_info=True)

    async def _write(self, source: KnowledgeSource, values: dict[str, Any]) -> None:
        async with self._database.unit_of_work(source.org_id) as session:
            if not await repository.update_source(
                session, source.id, org_id=source.org_id, run=source.run, values=values
            ):
                raise SourceChanged

    async def _fail(self, source: KnowledgeSource, *, code: str, message: str) -> None:
        await self._write(source, {"status": "failed", "stage": "done", "error_code": code, "error_message": message})
        _log.info("source_failed", source_id=str(source.id), error_code=code)


def _begin(source: KnowledgeSource, *, attempt: int) -> None:
    """Make a locked source this run's: who worked on it until now writes no more."""
    source.status = "processing"
    source.attempts = attempt
    source.run += 1


def _is_for_want_of_room(error: Exception) -> bool:
    match error:
        case ParseFailure(code=code):
            return code is FailureCode.STORAGE_FAILED
        case OSError(errno=number):
            return number in NO_ROOM
        case OperationalError(orig=orig):
            return isinstance(orig, DiskFull)
        case _:
            return False


async def _still_claimed(session: AsyncSession, source: KnowledgeSource) -> KnowledgeSource:
    """The source's row, locked. Raises `SourceChanged` where it is no longer this run's to change."""
    current = await repository.find_claimed(session, source.id, org_id=source.org_id, run=source.run)
    if current is None:
        raise SourceChanged
    return current


async def _happens(event: asyncio.Event, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            return await event.wait()
    except TimeoutError:
        return False


def _counted(blocks: Iterable[Block], advance: _Advance, abandoned: threading.Event) -> Iterator[Block]:
    """The blocks, noted as they are taken; they end early where nobody waits any more for what is made of them."""
    for block in blocks:
        if abandoned.is_set():
            return
        advance.done += 1
        yield block
