"""Start-up and resident memory of the whole platform, PostgreSQL included: `python -m bench.memory`."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.first_token import QUESTIONS
from tests.support.platform import Caller, PlatformProcess

MIB = 1024 * 1024


def run(*, questions: int = 10) -> dict[str, float]:
    """Seconds until ready, first and second start; MiB after the start and after the first answers.

    The sum of resident sets counts shared pages once for each process; the proportional one counts each page once.
    """
    with TemporaryDirectory(prefix="bwenge-bench-", ignore_cleanup_errors=True) as folder:
        data_dir = Path(folder) / "data"
        first, _ = _start(data_dir, questions=0)
        second, memory = _start(data_dir, questions=questions)
        return {"first_start_seconds": first, "second_start_seconds": second} | memory


def _start(data_dir: Path, *, questions: int) -> tuple[float, dict[str, float]]:
    began = time.perf_counter()
    with PlatformProcess(data_dir, demo=True) as platform:
        seconds = time.perf_counter() - began
        memory = _resident(platform.pid, "start")
        if questions:
            _ask(platform.url, data_dir, questions)
            memory |= _resident(platform.pid, "answers")
    return seconds, memory


def _ask(url: str, data_dir: Path, questions: int) -> None:
    demo: dict[str, Any] = json.loads((data_dir / "demo.json").read_text(encoding="utf-8"))
    learner = demo["learner"]
    caller = Caller.log_in(url, identifier=learner["identifier"], password=learner["password"])
    for number in range(questions):
        assert caller.ask(demo["persona_id"], QUESTIONS[number % len(QUESTIONS)])["citations"]


def _resident(pid: int, moment: str) -> dict[str, float]:
    platform = psutil.Process(pid)
    infos = [process.memory_full_info() for process in (platform, *platform.children(recursive=True))]
    return {f"{kind}_after_{moment}_mib": sum(getattr(info, kind) for info in infos) / MIB for kind in ("rss", "pss")}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
