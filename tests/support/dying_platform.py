"""The platform that comes to grief where a test says: `python -m tests.support.dying_platform up ...`.

The environment tells what happens:

DIE_AT: a point of `Point`, where the whole process is killed as by `kill -9`.
DIE_WITH_POSTGRES: set, PostgreSQL's postmaster is killed along with it.
HOLD_AT and HOLD_UNTIL: a point where ingestion waits until a file of that path exists.
KILL_EXTRACTIONS: how many of the first extractions lose their process, and that process alone.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil

from bwenge.cli import main
from bwenge.kit.jobs import queue
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.knowledge import index_rows, ingestion, jobs, repository
from bwenge.knowledge.chunking import Chunk
from bwenge.knowledge.index_rows import IndexSegment
from bwenge.knowledge.ingestion import SourceIngestion
from bwenge.knowledge.parsing import sandbox
from bwenge.providers.embedding.minilm import MiniLMEmbedder


class Point(StrEnum):
    """Where an ingestion may be struck, in the order in which it passes them."""

    EXTRACTING = "extracting"  # the extraction process has read its first page; nobody can wait here
    EXTRACTED = "extracted"
    CHUNKING = "chunking"  # the second chunk is made
    KEYWORD_ROWS = "keyword_rows"  # chunks and postings are written, and not committed
    KEYWORD_COMMITTED = "keyword_committed"
    EMBEDDING = "embedding"  # the first batch is embedded
    VECTOR_ROWS = "vector_rows"  # vectors are written, and not committed
    COMMITTED = "committed"  # the source is ready; its job is not marked done


class Blow:
    """What happens at the point."""

    def strike(self) -> None:
        """On a thread that may wait."""
        raise NotImplementedError

    async def strike_async(self) -> None:
        await asyncio.to_thread(self.strike)


class Death(Blow):
    def __init__(self, *, takes_postgres: bool) -> None:
        self._takes_postgres = takes_postgres

    def strike(self) -> None:
        if self._takes_postgres:
            for child in psutil.Process().children():
                if child.name() == "postgres":
                    child.kill()
        os.kill(os.getpid(), signal.SIGKILL)

    async def strike_async(self) -> None:
        # Not on another thread, beside which the event loop would live on for a moment.
        self.strike()


class Wait(Blow):
    def __init__(self, until: Path) -> None:
        self._until = until

    def strike(self) -> None:
        self._until.with_suffix(".reached").touch()
        while not self._until.exists():
            time.sleep(0.02)


def strike_before(owner: object, name: str, blow: Blow, *, when: Callable[..., bool] = lambda *_: True) -> None:
    """Strike when the asynchronous function is called and `when` says so of its arguments."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def struck(*args: Any, **options: Any) -> Any:
        if when(*args):
            await blow.strike_async()
        return await original(*args, **options)

    patch.object(owner, name, struck).start()


def _after(owner: object, name: str, blow: Blow) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def struck(*args: Any, **options: Any) -> Any:
        result = await original(*args, **options)
        await blow.strike_async()
        return result

    patch.object(owner, name, struck).start()


def _while_extracting(blow: Blow) -> None:
    original = sandbox.extract

    async def struck(*args: Any, on_progress: Any, **options: Any) -> Any:
        def note(done: int, total: int) -> None:
            on_progress(done, total)
            blow.strike()

        return await original(*args, on_progress=note, **options)

    patch.object(ingestion, "extract", struck).start()


def _while_chunking(blow: Blow) -> None:
    original = index_rows.index_segments

    def first_two_then_struck(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            yield chunk
            if chunk.index == 1:
                blow.strike()

    def struck(chunks: Iterable[Chunk]) -> Iterator[IndexSegment]:
        return original(first_two_then_struck(chunks))

    patch.object(ingestion, "index_segments", struck).start()


def _while_embedding(blow: Blow) -> None:
    calls = iter(range(1_000_000))
    strike_before(MiniLMEmbedder, "embed_documents", blow, when=lambda *_: next(calls) == 1)


def _is_embedding(_session: object, job: ClaimedJob) -> bool:
    return job.kind == jobs.EMBED


_ARRANGE: Final[dict[Point, Callable[[Blow], None]]] = {
    Point.EXTRACTING: _while_extracting,
    Point.EXTRACTED: lambda blow: _after(ingestion, "extract", blow),
    Point.CHUNKING: _while_chunking,
    Point.KEYWORD_ROWS: lambda blow: _after(repository, "replace_keyword_index", blow),
    Point.KEYWORD_COMMITTED: lambda blow: strike_before(SourceIngestion, "_make_fully_searchable", blow),
    Point.EMBEDDING: _while_embedding,
    Point.VECTOR_ROWS: lambda blow: _after(repository, "replace_vectors", blow),
    Point.COMMITTED: lambda blow: strike_before(queue, "finish", blow, when=_is_embedding),
}


def place(point: Point, blow: Blow) -> None:
    """Let the blow fall there from now on."""
    _ARRANGE[point](blow)


def _kill_extractions(count: int) -> None:
    original = sandbox._supervise
    left = iter(range(count))

    async def struck(process: asyncio.subprocess.Process, report: Any, *args: Any, **options: Any) -> None:
        if next(left, None) is not None:
            report.on_progress = lambda *_: _kill_group(process.pid)
        await original(process, report, *args, **options)

    patch.object(sandbox, "_supervise", struck).start()


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def arrange() -> None:
    """Put the blows of the environment in their places."""
    told = os.environ
    if "DIE_AT" in told:
        place(Point(told["DIE_AT"]), Death(takes_postgres="DIE_WITH_POSTGRES" in told))
    if "HOLD_AT" in told:
        place(Point(told["HOLD_AT"]), Wait(Path(told["HOLD_UNTIL"])))
    if "KILL_EXTRACTIONS" in told:
        _kill_extractions(int(told["KILL_EXTRACTIONS"]))


if __name__ == "__main__":
    arrange()
    main()
