import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bwenge.kit.data_directory import DataDirectoryInUse, DataDirectoryLock

HOLDER = """
import sys, time
from pathlib import Path
from bwenge.kit.data_directory import DataDirectoryLock
lock = DataDirectoryLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def hold_elsewhere(directory: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_missing_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path / "new"):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_second_process_is_refused_with_directory_and_pid(tmp_path: Path) -> None:
    with hold_elsewhere(tmp_path) as holder:
        with pytest.raises(DataDirectoryInUse) as refusal:
            DataDirectoryLock(tmp_path).acquire()
        holder.kill()
    assert refusal.value.directory == tmp_path
    assert refusal.value.pid == holder.pid
    assert str(tmp_path) in str(refusal.value)
    assert str(holder.pid) in str(refusal.value)


def test_a_killed_holder_leaves_the_directory_free(tmp_path: Path) -> None:
    with hold_elsewhere(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with DataDirectoryLock(tmp_path):
        assert (tmp_path / "process.lock").read_text() == f"{os.getpid()}\n"


def test_a_second_lock_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path), pytest.raises(DataDirectoryInUse):
        DataDirectoryLock(tmp_path).acquire()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = DataDirectoryLock(tmp_path)
    with lock:
        pass
    lock.release()
    with lock:
        pass


def test_programs_started_by_the_holder_do_not_keep_the_lock(tmp_path: Path) -> None:
    lock = DataDirectoryLock(tmp_path)
    lock.acquire()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as program:
        lock.release()
        with DataDirectoryLock(tmp_path):
            assert program.poll() is None
        program.kill()
