"""The parsing process: one file in, one file of blocks out, then the end.

Started by `sandbox.extract`, with a JSON object as its only argument. On its standard output it reports in JSON
Lines, each with an `event`: `started` (isolation), `progress` (done, total), `warning`, and last either `finished`
(blocks) or `failed` (code, message).
"""

import errno
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from bwenge.knowledge.parsing.base import NO_ROOM, FailureCode, MediaType, ParseFailure, Parser, ParseWarning, place
from bwenge.knowledge.parsing.blocks_file import write_blocks
from bwenge.knowledge.parsing.confinement import confine, limit_resources

# Named, not imported: a process loads only the parser that it needs.
_PARSERS: Final = {
    MediaType.PDF: ("bwenge.knowledge.parsing.pdf", "parse_pdf"),
    MediaType.DOCX: ("bwenge.knowledge.parsing.docx", "parse_docx"),
    MediaType.TEXT: ("bwenge.knowledge.parsing.text", "parse_text"),
    MediaType.MARKDOWN: ("bwenge.knowledge.parsing.markdown", "parse_markdown"),
}
_MAX_WARNINGS: Final = 100
_PROGRESS_SECONDS: Final = 0.1


class Reporter:
    """Reports to the parent; progress at most ten times a second, save the last."""

    def __init__(self, channel: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._next_progress = 0.0
        self._warnings = 0

    def send(self, event: str, **fields: Any) -> None:
        self._channel.write(json.dumps({"event": event, **fields}) + "\n")
        self._channel.flush()

    def progress(self, units_done: int, units_total: int) -> None:
        now = self._clock()
        if now >= self._next_progress or units_done == units_total:
            self._next_progress = now + _PROGRESS_SECONDS
            self.send("progress", done=units_done, total=units_total)

    def warn(self, warning: ParseWarning) -> None:
        self._warnings += 1
        if self._warnings <= _MAX_WARNINGS:
            self.send("warning", **warning.as_dict())


def run(order: dict[str, Any], reporter: Reporter) -> None:
    """Carries out one order; whatever goes wrong with the document is reported, not raised."""
    try:
        parse = _load_parser(MediaType(order["media_type"]))
        isolation = confine(parent_pid=order["parent_pid"])
        limit_resources(**order["resources"])
        reporter.send("started", isolation=isolation)
        passages = parse(Path(order["source"]), reporter, max_pages=order["max_pages"])
        count = write_blocks(
            Path(order["output"]), place(passages), max_bytes=order["max_bytes"], max_blocks=order["max_blocks"]
        )
        if count == 0:
            raise ParseFailure(FailureCode.NO_TEXT, "The document holds no text")
    except Exception as error:  # noqa: BLE001  # parsers raise what they like on hostile input; all of it is an outcome
        failure = _as_failure(error)
        reporter.send("failed", code=failure.code, message=failure.message, cause=type(error).__name__)
    else:
        reporter.send("finished", blocks=count)


def _load_parser(media_type: MediaType) -> Parser:
    module, name = _PARSERS[media_type]
    parser: Parser = getattr(importlib.import_module(module), name)
    return parser


def _as_failure(error: Exception) -> ParseFailure:
    if isinstance(error, ParseFailure):
        return error
    if isinstance(error, MemoryError):
        return ParseFailure(FailureCode.OUT_OF_MEMORY, "The document needs more memory than is allowed")
    if isinstance(error, RecursionError):
        return ParseFailure(FailureCode.TOO_COMPLEX, "The document is nested too deeply")
    if isinstance(error, OSError):
        return _of_the_system(error.errno)
    return ParseFailure(FailureCode.UNREADABLE, "The file cannot be read")


def _of_the_system(number: int | None) -> ParseFailure:
    if number == errno.EFBIG:
        return ParseFailure(FailureCode.TOO_LARGE, "The document holds more text than is allowed")
    # The document may be sound, so the job is tried again.
    if number in NO_ROOM:
        return ParseFailure(FailureCode.STORAGE_FAILED, "There was no room on the server's disk to read the document")
    return ParseFailure(FailureCode.WORKER_LOST, "The process that read the document was lost")


def main() -> None:
    """Takes standard output for the reports alone, so that nothing a library prints is mistaken for one."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())
    with channel:
        run(json.loads(sys.argv[1]), Reporter(channel))


if __name__ == "__main__":
    main()
