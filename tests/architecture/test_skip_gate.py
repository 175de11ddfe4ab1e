"""A skip is refused unless it is named with its reason, on one process and on two."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.sources import ROOT
from tests.support.skip_gate import allowed_skips

pytestmark = pytest.mark.slow_architecture

TESTS: Final = """
import pytest

def test_passes() -> None: ...

@pytest.mark.parametrize("number", [1, 2])
def test_skips(number: int) -> None:
    pytest.skip("no camera")
"""

NAMED: Final = """
[[skip]]
test = "tests/test_a.py::test_skips"
reason = "no camera"
why = "The machine has none."
"""


def run_pytest(folder: Path, *arguments: str, allowed: str, strict: str = "1") -> tuple[int, str]:
    """Run the tests above in a project of their own under the gate."""
    (folder / "tests").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests" / "test_a.py").write_text(TESTS)
    (folder / "tests" / "allowed_skips.toml").write_text(allowed)
    result = subprocess.run(  # noqa: S603  # this interpreter
        [sys.executable, "-m", "pytest", "-p", "tests.support.skip_gate", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BWENGE_STRICT_SKIPS": strict},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "two"])
def test_an_unnamed_skip_fails_the_run_and_is_shown(tmp_path: Path, processes: tuple[str, ...]) -> None:
    status, output = run_pytest(tmp_path, *processes, allowed="")

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "tests/test_a.py::test_skips[1]: no camera" in output
    assert "tests/test_a.py::test_skips[2]: no camera" in output


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "two"])
def test_a_named_skip_passes(tmp_path: Path, processes: tuple[str, ...]) -> None:
    status, output = run_pytest(tmp_path, *processes, allowed=NAMED)

    assert status == pytest.ExitCode.OK, output


def test_a_skip_named_for_another_reason_fails_the_run(tmp_path: Path) -> None:
    status, _ = run_pytest(tmp_path, allowed=NAMED.replace("no camera", "no microphone"))

    assert status == pytest.ExitCode.TESTS_FAILED


def test_a_developers_run_is_not_gated(tmp_path: Path) -> None:
    status, _ = run_pytest(tmp_path, allowed="", strict="0")

    assert status == pytest.ExitCode.OK


def test_a_skip_needs_its_why(tmp_path: Path) -> None:
    (tmp_path / "allowed.toml").write_text('[[skip]]\ntest = "a"\nreason = "b"\n')

    with pytest.raises(ValueError, match="needs test, reason and why"):
        allowed_skips(tmp_path / "allowed.toml")
