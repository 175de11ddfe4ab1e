"""Parses an untrusted file in a process of its own, within bounds of time, memory and output."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

import bwenge
from bwenge.knowledge.parsing.base import Block, FailureCode, MediaType, ParseFailure, ParseWarning
from bwenge.knowledge.parsing.blocks_file import read_blocks
from bwenge.knowledge.parsing.cleaning import clean
from bwenge.knowledge.parsing.confinement import Isolation

log = structlog.get_logger(__name__)

ProgressListener = Callable[[int, int], None]
"""Called with (units_done, units_total) on the event loop; it must not block."""

_MIB: Final = 1024 * 1024
_BLOCKS_FILE: Final = "blocks.jsonl"
_MAX_REPORT_BYTES: Final = 64 * 1024
_MAX_WARNINGS: Final = 100
_MAX_UNITS: Final = 2**31 - 1
_MAX_MESSAGE_CHARS: Final = 300
_MEMORY_POLL_SECONDS: Final = 0.1
# Address space is reserved more freely than it is used: the interpreter and PDFium map about 300 MiB at rest.
_ADDRESS_SPACE_ALLOWANCE: Final = 1024 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionLimits:
    """Bounds of one extraction; `memory_bytes` is resident memory, watched from outside ten times a second."""

    wall_seconds: float = 300.0
    cpu_seconds: int = 240
    memory_bytes: int = 768 * _MIB
    output_bytes: int = 200 * _MIB
    max_blocks: int = 500_000
    max_pages: int = 10_000
    open_files: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """A document that was read.

    Attributes:
        page_count: None for formats without pages.
        units_total: Pages, or what the format's parser counts.
    """

    path: Path
    block_count: int
    page_count: int | None
    units_total: int
    warnings: tuple[ParseWarning, ...]
    isolation: Isolation

    def blocks(self) -> Iterator[Block]:
        """Reads the blocks from the work directory anew, one at a time; blocking, so for a thread.

        Raises:
            ParseFailure: `worker_lost` where the file is not what a sound worker writes.
        """
        return read_blocks(self.path)


async def extract(
    path: Path,
    media_type: MediaType,
    *,
    work_dir: Path,
    limits: ExtractionLimits | None = None,
    on_progress: ProgressListener | None = None,
) -> Extraction:
    """Extracts the text of a file; the blocks stand in `work_dir`, which the caller makes and removes.

    Cancelling kills the process.

    Raises:
        ParseFailure: The document yields nothing; its code says why.
    """
    limits = limits or ExtractionLimits()
    output = work_dir / _BLOCKS_FILE
    order = await asyncio.to_thread(_order, path, media_type, output=output, limits=limits)
    process = await asyncio.create_subprocess_exec(
        *_command(order),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=work_dir,
        env=_environment(work_dir),
        start_new_session=True,
        limit=_MAX_REPORT_BYTES,
    )
    report = _Report(on_progress)
    watchdog = _MemoryWatchdog(process, limits.memory_bytes)
    try:
        await _supervise(process, report, watchdog, wall_seconds=limits.wall_seconds)
    finally:
        _kill(process)
        await process.wait()
    report.check(process.returncode, watchdog)
    return Extraction(
        path=output,
        block_count=report.blocks,
        page_count=report.units_total if media_type is MediaType.PDF else None,
        units_total=report.units_total,
        warnings=tuple(report.warnings),
        isolation=report.isolation,
    )


def _order(path: Path, media_type: MediaType, *, output: Path, limits: ExtractionLimits) -> dict[str, Any]:
    """What the worker is told; paths are absolute, for it runs in the work directory."""
    if path.stat().st_size == 0:
        raise ParseFailure(FailureCode.EMPTY_FILE, "The file is empty")
    return {
        "media_type": media_type,
        "source": str(path.resolve()),
        "output": str(output.resolve()),
        "parent_pid": os.getpid(),
        "max_pages": limits.max_pages,
        "max_blocks": limits.max_blocks,
        "max_bytes": limits.output_bytes,
        "resources": {
            "cpu_seconds": limits.cpu_seconds,
            "address_space": limits.memory_bytes + _ADDRESS_SPACE_ALLOWANCE,
            "file_bytes": limits.output_bytes,
            "open_files": limits.open_files,
        },
    }


def _command(order: dict[str, Any]) -> list[str]:
    # -P keeps the work directory, where the untrusted file may lie, off the module path; -s the user's own packages.
    return [sys.executable, "-P", "-s", "-m", "bwenge.knowledge.parsing.worker", json.dumps(order)]


def _environment(work_dir: Path) -> dict[str, str]:
    """Nothing of the parent's environment, which holds its secrets, save where modules are found."""
    root = str(Path(bwenge.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root]),
        "PYTHONUTF8": "1",
        "HOME": str(work_dir),
        "TMPDIR": str(work_dir),
    }


async def _supervise(
    process: asyncio.subprocess.Process, report: "_Report", watchdog: "_MemoryWatchdog", *, wall_seconds: float
) -> None:
    watching = asyncio.create_task(watchdog.run())
    deadline = asyncio.timeout(wall_seconds)
    try:
        async with deadline:
            await report.follow(process)
            await process.wait()
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise ParseFailure(FailureCode.TIMED_OUT, "Reading the document took too long") from error
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kills the process's whole group; its id cannot belong to another before the process is waited for."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


class _MemoryWatchdog:
    """Kills a process that uses more resident memory than it may."""

    def __init__(self, process: asyncio.subprocess.Process, most: int) -> None:
        self._process = process
        self._most = most
        self._peak = 0
        self.has_killed = False

    @property
    def was_near_limit(self) -> bool:
        """A parser that dies by itself with this much in use was most likely refused more."""
        return self._peak > 0.8 * self._most

    async def run(self) -> None:
        try:
            watched = psutil.Process(self._process.pid)
            while True:
                self._peak = max(self._peak, watched.memory_info().rss)
                if self._peak > self._most:
                    self.has_killed = True
                    _kill(self._process)
                    return
                await asyncio.sleep(_MEMORY_POLL_SECONDS)
        except psutil.NoSuchProcess:
            return


@dataclass(slots=True)
class _Report:
    """What the process has told of itself; a document may have taken it over, so nothing is believed blindly."""

    on_progress: ProgressListener | None
    isolation: Isolation = Isolation.NONE
    units_total: int = 0
    blocks: int = -1
    failure: ParseFailure | None = None
    warnings: list[ParseWarning] = field(default_factory=list)

    async def follow(self, process: asyncio.subprocess.Process) -> None:
        """Takes reports until the process closes its output.

        Raises:
            ParseFailure: `worker_lost` for a report that no sound worker sends.
        """
        assert process.stdout is not None  # noqa: S101  # for the type checker: it was opened as a pipe
        try:
            while line := await process.stdout.readline():
                event = json.loads(line)
                self._take(event)
        except (ValueError, KeyError, TypeError) as error:
            raise _lost("malformed_report") from error

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "started":
                self.isolation = Isolation(event["isolation"])
            case "progress":
                self._take_progress(int(event["done"]), int(event["total"]))
            case "warning" if len(self.warnings) < _MAX_WARNINGS:
                pages = tuple(int(page) for page in event["pages"])
                message, count = _told(event["message"]), int(event["count"])
                self.warnings.append(ParseWarning(_told(event["code"]), message, count=count, pages=pages))
            case "failed":
                self.failure = ParseFailure(FailureCode(event["code"]), _told(event["message"]))
                log.info("document_failed", code=event["code"], cause=_told(event["cause"]))
            case "finished":
                self.blocks = int(event["blocks"])

    def _take_progress(self, done: int, total: int) -> None:
        if not 0 <= done <= total <= _MAX_UNITS:
            raise ValueError("Impossible progress")
        self.units_total = total
        if self.on_progress is not None:
            self.on_progress(done, total)

    def check(self, returncode: int | None, watchdog: _MemoryWatchdog) -> None:
        """Raises what went wrong, if anything did."""
        if watchdog.has_killed:
            raise ParseFailure(FailureCode.OUT_OF_MEMORY, "The document needs more memory than is allowed")
        if self.failure is not None:
            raise self.failure
        if returncode == 0 and self.blocks > 0:
            return
        if returncode == -signal.SIGXCPU:
            raise ParseFailure(FailureCode.TIMED_OUT, "Reading the document took too long")
        if watchdog.was_near_limit:
            raise ParseFailure(FailureCode.OUT_OF_MEMORY, "The document needs more memory than is allowed")
        raise _lost("died", returncode=returncode)


def _told(value: object) -> str:
    """Words of the process that can be stored and shown."""
    return clean(str(value))[:_MAX_MESSAGE_CHARS]


def _lost(reason: str, **facts: Any) -> ParseFailure:
    log.warning("parsing_process_lost", reason=reason, **facts)
    return ParseFailure(FailureCode.WORKER_LOST, "The process that read the document was lost")
