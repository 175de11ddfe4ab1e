"""A scratch folder lives as long as its process, whoever else works beside it."""

import os
import subprocess
import sys
from pathlib import Path

from bwenge.apps.scratch import Scratch, remove_all_but_held

HOLD = """
import sys
from pathlib import Path
from bwenge.apps.scratch import Scratch
scratch = Scratch.claim(Path(sys.argv[1]))
(scratch.path / "half a document").write_text("x")
print(scratch.path, flush=True)
sys.stdin.read()
"""


def hold(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process with a scratch folder of its own."""
    process = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", HOLD, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_each_claim_has_a_folder_of_its_own_that_goes_with_its_release(tmp_path: Path) -> None:
    with Scratch.claim(tmp_path) as first, Scratch.claim(tmp_path) as second:
        assert first.path != second.path
        (first.path / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_living_process_is_left_alone_and_that_of_a_killed_one_goes(tmp_path: Path) -> None:
    process, path = hold(tmp_path)
    try:
        with Scratch.claim(tmp_path):
            assert (path / "half a document").exists()
    finally:
        end(process)
    assert path.exists()
    with Scratch.claim(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own.path]


def test_what_is_no_scratch_folder_is_left_alone_by_a_claim(tmp_path: Path) -> None:
    (tmp_path / "source-1").mkdir()
    with Scratch.claim(tmp_path):
        assert (tmp_path / "source-1").is_dir()


def test_whoever_is_alone_removes_everything_but_what_is_held(tmp_path: Path) -> None:
    (tmp_path / "source-1").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "scratch-of-a-dead-process").mkdir()
    with Scratch.claim(tmp_path) as held:
        (tmp_path / "scratch-of-another-dead-process").mkdir()
        remove_all_but_held(tmp_path)
        assert list(tmp_path.iterdir()) == [held.path]


def test_a_released_folder_is_released_once(tmp_path: Path) -> None:
    scratch = Scratch.claim(tmp_path)
    scratch.release()
    scratch.release()
    assert list(tmp_path.iterdir()) == []
