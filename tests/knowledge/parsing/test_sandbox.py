import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from bwenge.knowledge.parsing import sandbox
from bwenge.knowledge.parsing.base import FailureCode, MediaType, ParseFailure
from bwenge.knowledge.parsing.confinement import Isolation
from bwenge.knowledge.parsing.sandbox import Extraction, ExtractionLimits, extract
from tests.knowledge.parsing.sample_files import PdfWriter, endless_pdf, greedy_pdf, write_docx, write_pdf

T = TypeVar("T")
ROOT = Path(sandbox.__file__).resolve().parents[3]
GIB = 1024**3
PATIENT = ExtractionLimits(memory_bytes=8 * GIB)
"""For documents that would go on until something else stops them."""


async def code_of(path: Path, media_type: MediaType, *, limits: ExtractionLimits | None = None) -> FailureCode:
    with pytest.raises(ParseFailure) as failure:
        await extract(path, media_type, work_dir=path.parent, limits=limits)
    return failure.value.code


async def until(find: Callable[[], T | None]) -> T:
    async with asyncio.timeout(30):
        while (found := find()) is None:  # noqa: ASYNC110  # another process sets no event here
            await asyncio.sleep(0.01)
    return found


def worker_below(pid: int) -> psutil.Process | None:
    """The parsing process once it has read its own program, and so is past its start."""
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "bwenge.knowledge.parsing.worker" in child.cmdline():
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def is_gone(process: psutil.Process) -> bool | None:
    return True if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE else None


@asynccontextmanager
async def extracting(path: Path) -> AsyncIterator[tuple[asyncio.Task[Extraction], psutil.Process]]:
    task = asyncio.create_task(extract(path, MediaType.PDF, work_dir=path.parent, limits=PATIENT))
    try:
        yield task, await until(lambda: worker_below(os.getpid()))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_pdf_comes_back_with_its_pages_and_progress(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["First page."], [], ["Third page."]])
    steps: list[tuple[int, int]] = []
    extraction = await extract(
        path, MediaType.PDF, work_dir=tmp_path, on_progress=lambda done, total: steps.append((done, total))
    )
    assert [(block.page, block.text) for block in extraction.blocks()] == [(1, "First page."), (3, "Third page.")]
    assert (extraction.page_count, extraction.units_total, extraction.block_count) == (3, 3, 2)
    assert steps[-1] == (3, 3)
    assert [(warning.code, warning.pages) for warning in extraction.warnings] == [("pages_without_text", (2,))]
    assert extraction.isolation in set(Isolation)


async def test_blocks_can_be_read_again(tmp_path: Path) -> None:
    extraction = await extract(write_docx(tmp_path / "a.docx"), MediaType.DOCX, work_dir=tmp_path)
    assert list(extraction.blocks()) == list(extraction.blocks())
    assert extraction.page_count is None


@pytest.mark.parametrize("media_type", [MediaType.TEXT, MediaType.MARKDOWN])
async def test_texts_are_read_in_the_same_way(tmp_path: Path, media_type: MediaType) -> None:
    path = tmp_path / "a"
    path.write_text("Amazi ni ubuzima.", encoding="utf-8")
    extraction = await extract(path, media_type, work_dir=tmp_path)
    assert [block.text for block in extraction.blocks()] == ["Amazi ni ubuzima."]


@pytest.mark.parametrize("media_type", list(MediaType))
async def test_an_empty_file_is_called_so(tmp_path: Path, media_type: MediaType) -> None:
    (tmp_path / "a").touch()
    assert await code_of(tmp_path / "a", media_type) is FailureCode.EMPTY_FILE


async def test_a_document_without_text_is_called_so(tmp_path: Path) -> None:
    assert await code_of(write_pdf(tmp_path / "a.pdf", [[], []]), MediaType.PDF) is FailureCode.NO_TEXT


async def test_a_truncated_pdf_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(write_pdf(tmp_path / "whole.pdf", [["Text."] * 40]).read_bytes()[:300])
    assert await code_of(path, MediaType.PDF) is FailureCode.UNREADABLE


async def test_a_pdf_under_a_password_is_encrypted(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf", encrypt="secret")
    writer.paragraph("Hidden.").save()
    assert await code_of(tmp_path / "a.pdf", MediaType.PDF) is FailureCode.ENCRYPTED


async def test_an_endless_document_is_stopped_by_the_clock(tmp_path: Path) -> None:
    limits = ExtractionLimits(wall_seconds=1.5, memory_bytes=8 * GIB)
    assert await code_of(endless_pdf(tmp_path / "a.pdf"), MediaType.PDF, limits=limits) is FailureCode.TIMED_OUT


async def test_an_endless_document_is_stopped_by_its_processor_time(tmp_path: Path) -> None:
    limits = ExtractionLimits(cpu_seconds=1, memory_bytes=8 * GIB)
    assert await code_of(endless_pdf(tmp_path / "a.pdf"), MediaType.PDF, limits=limits) is FailureCode.TIMED_OUT


async def test_a_document_that_grows_without_end_is_stopped_by_its_memory(tmp_path: Path) -> None:
    limits = ExtractionLimits(memory_bytes=150 * 1024**2)
    path = greedy_pdf(tmp_path / "a.pdf", megabytes=60)
    assert await code_of(path, MediaType.PDF, limits=limits) is FailureCode.OUT_OF_MEMORY


async def test_more_text_than_allowed_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One paragraph of many.\n\n" * 5000, encoding="utf-8")
    limits = ExtractionLimits(output_bytes=100_000)
    assert await code_of(path, MediaType.TEXT, limits=limits) is FailureCode.TOO_LARGE


async def test_more_blocks_than_allowed_are_too_complex(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One.\n\n" * 50, encoding="utf-8")
    limits = ExtractionLimits(max_blocks=20)
    assert await code_of(path, MediaType.TEXT, limits=limits) is FailureCode.TOO_COMPLEX


async def test_a_killed_process_is_lost(tmp_path: Path) -> None:
    async with extracting(endless_pdf(tmp_path / "a.pdf")) as (task, worker):
        worker.kill()
        with pytest.raises(ParseFailure) as failure:
            await task
    assert failure.value.code is FailureCode.WORKER_LOST


async def test_cancelling_kills_the_process(tmp_path: Path) -> None:
    async with extracting(endless_pdf(tmp_path / "a.pdf")) as (task, worker):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_gone(worker)


async def test_a_listener_that_fails_ends_the_extraction_and_its_process(tmp_path: Path) -> None:
    def fail(_done: int, _total: int) -> None:
        raise RuntimeError("listener")

    path = write_pdf(tmp_path / "a.pdf", [["Text."]])
    with pytest.raises(RuntimeError, match="listener"):
        await extract(path, MediaType.PDF, work_dir=tmp_path, on_progress=fail)
    assert worker_below(os.getpid()) is None


async def test_a_killed_parent_leaves_no_orphan(tmp_path: Path) -> None:
    path = endless_pdf(tmp_path / "a.pdf")
    script = f"""
import asyncio, pathlib
from bwenge.knowledge.parsing.sandbox import ExtractionLimits, MediaType, extract
limits = ExtractionLimits(memory_bytes={8 * GIB})
path = pathlib.Path({str(path)!r})
asyncio.run(extract(path, MediaType.PDF, work_dir=path.parent, limits=limits))
"""
    parent = subprocess.Popen(  # noqa: S603, ASYNC220  # our own interpreter and script; it starts in the background
        [sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT)}
    )
    try:
        worker = await until(lambda: worker_below(parent.pid))
        await until(lambda: True if worker.cpu_times().user > 0.2 else None)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert await until(lambda: is_gone(worker))


async def test_two_documents_are_read_side_by_side(tmp_path: Path) -> None:
    async def read(name: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        path = write_pdf(folder / "a.pdf", [[f"About {name}."]])
        extraction = await extract(path, MediaType.PDF, work_dir=folder)
        return next(extraction.blocks()).text

    rivers, hills = await asyncio.gather(read("rivers"), read("hills"))
    assert (rivers, hills) == ("About rivers.", "About hills.")


async def test_modules_beside_the_document_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)", encoding="utf-8")
    extraction = await extract(write_pdf(tmp_path / "a.pdf", [["Text."]]), MediaType.PDF, work_dir=tmp_path)
    assert extraction.block_count == 1


def test_the_process_sees_none_of_the_secrets_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BWENGE_LLM_API_KEY", "secret")
    assert "secret" not in str(sandbox._environment(tmp_path))


@pytest.mark.parametrize("module", ["fastapi", "sqlalchemy", "pydantic", "structlog", "psutil", "asyncio", "docx"])
def test_the_process_loads_nothing_that_it_does_not_need(module: str) -> None:
    code = (
        "import sys, bwenge.knowledge.parsing.worker as worker, bwenge.knowledge.parsing.pdf;"
        f"print({module!r} in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603  # our own interpreter and script
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


REPORTS = {
    "no JSON": "oops",
    "no object": "[1]",
    "no event": "{}",
    "a code of its own": '{"event": "failed", "code": "invented", "message": "x", "cause": "x"}',
    "impossible progress": '{"event": "progress", "done": 9, "total": 3}',
    "an isolation of its own": '{"event": "started", "isolation": "perfect"}',
    "an endless line": "x" * 100_000,
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
async def test_a_report_that_no_sound_worker_sends_means_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    program = f"print({report!r}, flush=True); import time; time.sleep(60)"
    monkeypatch.setattr(sandbox, "_command", lambda _order: [sys.executable, "-c", program])
    (tmp_path / "a").write_text("text", encoding="utf-8")
    assert await code_of(tmp_path / "a", MediaType.TEXT) is FailureCode.WORKER_LOST


async def test_a_process_that_ends_well_without_a_result_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_command", lambda _order: [sys.executable, "-c", "pass"])
    (tmp_path / "a").write_text("text", encoding="utf-8")
    assert await code_of(tmp_path / "a", MediaType.TEXT) is FailureCode.WORKER_LOST
