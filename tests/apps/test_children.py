"""Programs that are kept running: real processes, killed, refusing to end, and left by whoever started them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from bwenge.apps.children import Child, Program, stop_all
from tests.support.platform import REPOSITORY
from tests.support.waiting import comes_true, eventually

SAYS_ITS_PID = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(600)"
ENDS_AT_ONCE = "print('again', flush=True)"
WILL_NOT_END = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('pid', 0, flush=True); time.sleep(600)"
)
LEAVES_A_GRANDCHILD = (
    "import os, subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('pid', os.getpid(), flush=True); time.sleep(600)"
)
STARTS_A_CHILD = """
import asyncio, sys
from pathlib import Path
from bwenge.apps.children import Child, Program

async def main():
    Child(Program("kept", (sys.executable, "-c", sys.argv[2]), {}), logs=Path(sys.argv[1])).start()
    await asyncio.sleep(600)

asyncio.run(main())
"""


def program(code: str) -> Program:
    return Program("kept", (sys.executable, "-c", code), {"PATH": os.environ["PATH"]})


def words(logs: Path) -> list[str]:
    log = logs / "kept.log"
    return log.read_text(encoding="utf-8").split() if log.exists() else []


def pids(logs: Path) -> list[int]:
    return [int(after) for before, after in zip(words(logs), words(logs)[1:], strict=False) if before == "pid"]


async def has_said(logs: Path, count: int) -> None:
    async def holds() -> bool:
        return len(pids(logs)) >= count

    await comes_true(holds, f"the program has started {count} times")


@pytest.mark.parametrize("code", [SAYS_ITS_PID, LEAVES_A_GRANDCHILD])
async def test_a_killed_program_is_started_again(tmp_path: Path, code: str) -> None:
    child = Child(program(code), logs=tmp_path)
    child.start()
    await has_said(tmp_path, 1)
    others = psutil.Process(pids(tmp_path)[0]).children()
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    await has_said(tmp_path, 2)
    await child.stop(seconds=10)
    for other in others:
        other.kill()
    first, second = pids(tmp_path)
    assert first != second
    assert not psutil.pid_exists(second)


async def test_one_that_ends_at_once_is_given_time_between_its_starts(tmp_path: Path) -> None:
    child = Child(program(ENDS_AT_ONCE), logs=tmp_path)
    child.start()

    async def has_started_thrice() -> bool:
        return child.starts >= 3

    began = asyncio.get_running_loop().time()
    await comes_true(has_started_thrice)
    # 0.4 and 0.8 s lie between the three starts.
    assert asyncio.get_running_loop().time() - began > 1.1
    await child.stop(seconds=10)
    starts = child.starts
    await asyncio.sleep(0)
    assert child.starts == starts


async def test_one_that_will_not_end_is_killed(tmp_path: Path) -> None:
    child = Child(program(WILL_NOT_END), logs=tmp_path)
    child.start()
    await has_said(tmp_path, 1)
    await stop_all([child], seconds=0.2)
    assert not [other for other in psutil.Process().children() if WILL_NOT_END in " ".join(other.cmdline())]


async def test_a_start_that_the_machine_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [OSError(11, "Resource temporarily unavailable")] * 2
    start = asyncio.create_subprocess_exec

    async def short_of_processes(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        if refusals:
            raise refusals.pop()
        return await start(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", short_of_processes)
    child = Child(program(SAYS_ITS_PID), logs=tmp_path)
    child.start()
    await has_said(tmp_path, 1)
    await child.stop(seconds=10)
    assert child.starts == 1


async def test_one_that_is_killed_takes_with_it_what_it_started(tmp_path: Path) -> None:
    child = Child(program(LEAVES_A_GRANDCHILD), logs=tmp_path)
    child.start()
    await has_said(tmp_path, 1)
    [grandchild] = psutil.Process(pids(tmp_path)[0]).children()
    child.kill()
    await child.stop(seconds=10)

    async def has_ended() -> bool:
        return not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE

    await comes_true(has_ended)


async def test_one_that_was_never_started_is_stopped_without_a_word(tmp_path: Path) -> None:
    await Child(program(SAYS_ITS_PID), logs=tmp_path).stop(seconds=1)
    assert words(tmp_path) == []


def test_a_child_ends_with_whoever_keeps_it_however_that_ends(tmp_path: Path) -> None:
    keeper = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", STARTS_A_CHILD, str(tmp_path), SAYS_ITS_PID],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "src")},
    )
    eventually(lambda: len(pids(tmp_path)) == 1, "the child runs")
    [pid] = pids(tmp_path)
    keeper.kill()
    keeper.wait()
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
