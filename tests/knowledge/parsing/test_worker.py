import errno
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bwenge.knowledge.parsing import worker
from bwenge.knowledge.parsing.base import FailureCode, ParseFailure, ParseWarning


def events(channel: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in channel.getvalue().splitlines()]


def test_progress_is_reported_ten_times_a_second_and_at_the_end() -> None:
    channel = io.StringIO()
    times = iter([0.0, 0.01, 0.02, 0.11, 0.12, 0.13])
    reporter = worker.Reporter(channel, clock=lambda: next(times))
    for done in range(1, 7):
        reporter.progress(done, 6)
    assert [event["done"] for event in events(channel)] == [1, 4, 6]


def test_warnings_are_bounded() -> None:
    channel = io.StringIO()
    reporter = worker.Reporter(channel)
    for _ in range(500):
        reporter.warn(ParseWarning("pages_unreadable", "x"))
    assert len(events(channel)) == 100


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParseFailure(FailureCode.ENCRYPTED, "x"), FailureCode.ENCRYPTED),
        (MemoryError(), FailureCode.OUT_OF_MEMORY),
        (RecursionError(), FailureCode.TOO_COMPLEX),
        (OSError(errno.EFBIG, "x"), FailureCode.TOO_LARGE),
        (OSError(errno.ENOSPC, "x"), FailureCode.STORAGE_FAILED),
        (OSError(errno.EDQUOT, "x"), FailureCode.STORAGE_FAILED),
        (OSError(errno.ENOENT, "x"), FailureCode.WORKER_LOST),
        (KeyError("secret words of the document"), FailureCode.UNREADABLE),
    ],
)
def test_each_error_has_its_code_and_no_words_of_the_document(error: Exception, code: FailureCode) -> None:
    failure = worker._as_failure(error)
    assert failure.code is code
    assert "secret" not in failure.message


def test_an_unknown_media_type_is_reported_and_nothing_is_read(tmp_path: Path) -> None:
    channel = io.StringIO()
    worker.run({"media_type": "exe", "source": str(tmp_path / "never")}, worker.Reporter(channel))
    assert [event["event"] for event in events(channel)] == ["failed"]
