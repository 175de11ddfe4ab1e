"""The first five minutes of a newcomer, and what an operator sees: the printed words, the files, the exit codes."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
import pytest
import websockets.sync.client

from bwenge.apps.demo_data import FIRST_QUESTION
from tests.support.platform import REPOSITORY, Caller, PlatformProcess, free_port
from tests.system.textbook import VILLAGES, fact_about, question_about, write_textbook

COMMAND_SECONDS: Final = 240


def bwenge(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, with nothing of the developer's own environment."""
    return subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "bwenge", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def started(home: Path) -> Iterator[PlatformProcess]:
    with PlatformProcess(home / "data", demo=True) as platform:
        yield platform


@pytest.fixture(scope="module")
def demo(started: PlatformProcess) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((started.data_dir / "demo.json").read_text(encoding="utf-8"))
    return content


def test_the_start_says_where_to_go_who_to_be_and_what_to_type(started: PlatformProcess, demo: dict[str, Any]) -> None:
    assert f"Bwenge OS is ready at {started.url}" in started.output
    for role in ("owner", "learner"):
        assert demo[role]["identifier"] in started.output
        assert demo[role]["password"] in started.output


def test_the_printed_command_gives_a_cited_answer(started: PlatformProcess, home: Path) -> None:
    [command] = re.findall(r'^  (\S.* ask ".*)$', started.output, re.MULTILINE)
    answer = subprocess.run(  # noqa: S602  # as a newcomer's shell reads what stands there
        command, shell=True, cwd=home, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert FIRST_QUESTION in command
    assert "I = P × r × t" in answer.stdout
    assert "[1]" in answer.stdout
    assert re.search(r"\[1\] .*, page 5\n", answer.stdout)
    assert "#page=5" in answer.stdout


def test_what_the_lesson_does_not_hold_is_said_so_and_cites_nothing(started: PlatformProcess, home: Path) -> None:
    answer = bwenge("ask", "--data-dir", str(started.data_dir), "Which planet is nearest to the sun?", folder=home)
    assert answer.returncode == 0
    assert "does not answer that" in answer.stdout
    assert "Sources" not in answer.stdout


def test_ask_uploads_a_document_of_ones_own_and_answers_from_it(started: PlatformProcess, home: Path) -> None:
    booklet = write_textbook(home / "villages.pdf", villages=VILLAGES[:2])
    answer = bwenge(
        "ask",
        "--data-dir",
        str(started.data_dir),
        "--file",
        str(booklet),
        question_about(VILLAGES[1]),
        folder=home,
    )
    assert answer.returncode == 0, answer.stderr
    assert "passages" in answer.stdout
    assert fact_about(VILLAGES[1]) in answer.stdout
    assert "villages, page 2" in answer.stdout


def test_a_document_that_cannot_be_read_fails_the_command_with_its_reason(started: PlatformProcess, home: Path) -> None:
    broken = home / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing more")
    answer = bwenge("ask", "--data-dir", str(started.data_dir), "--file", str(broken), "What is it?", folder=home)
    assert answer.returncode == 1
    assert "unreadable" in answer.stderr


def test_secrets_are_readable_by_their_owner_alone(started: PlatformProcess, demo: dict[str, Any]) -> None:
    del demo

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(started.data_dir) & 0o077 in {0, 0o010}  # as root, the search entry of PostgreSQL's user is the mask
    assert {mode(started.data_dir / name) for name in ("secret.key", "demo.json")} == {0o600}


def test_logs_hold_no_secret_and_no_message(started: PlatformProcess, home: Path, demo: dict[str, Any]) -> None:
    question = "Is the well of Gisagara enchanted by Nyabingi?"
    assert bwenge("ask", "--data-dir", str(started.data_dir), question, folder=home).returncode == 0
    learner = Caller.log_in(started.url, identifier=demo["learner"]["identifier"], password=demo["learner"]["password"])
    address = f"ws{started.url.removeprefix('http')}/ws/chat?persona_id={demo['persona_id']}&token={learner.token}"
    with websockets.sync.client.connect(address, proxy=None) as socket:
        assert json.loads(socket.recv())["type"] == "session_info"
    logs = "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in started.data_dir.rglob("*log*") if path.is_file()
    )
    assert '"event": "request"' in logs
    secret = (started.data_dir / "secret.key").read_text()
    hidden = (
        secret,
        demo["owner"]["password"],
        demo["learner"]["password"],
        "Nyabingi",
        "eyJ",
        "signature=",
        "Bearer ",
    )
    assert [word for word in hidden if word in logs] == []


def test_a_second_process_on_the_same_data_directory_is_refused(started: PlatformProcess, home: Path) -> None:
    second = bwenge("up", "--data-dir", str(started.data_dir), "--port", str(free_port()), folder=home)
    assert second.returncode == 1
    assert f"in use by process {started.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_refused_in_words(started: PlatformProcess, home: Path) -> None:
    second = bwenge("up", "--data-dir", str(home / "other"), "--port", str(started.port), "--no-demo", folder=home)
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{started.port}" in second.stderr
    assert "Traceback" not in second.stderr
    assert not (home / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ask", "What?"), 1, "bwenge up"),
        (("ask",), 2, "Missing argument"),
        (("up", "--port", "70000"), 2, "Invalid value"),
        (("dance",), 2, "No such command"),
        (("--version",), 0, ""),
    ],
)
def test_exit_codes_tell_failure_from_wrong_use(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended = bwenge(*arguments, folder=tmp_path)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr


def test_a_wrong_setting_is_named_and_its_value_kept_quiet(tmp_path: Path) -> None:
    ended = bwenge("up", folder=tmp_path, BWENGE_SECRET_KEY="too-short-to-be-one")
    assert ended.returncode == 2
    assert "BWENGE_SECRET_KEY" in ended.stderr
    assert "too-short-to-be-one" not in ended.stderr + ended.stdout


def test_stopped_and_started_again_the_platform_keeps_what_it_has_and_makes_nothing_twice() -> None:
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        platform = PlatformProcess(Path(folder) / "data", demo=True).start()
        family = psutil.Process(platform.pid).children(recursive=True)
        assert platform.stop() == 0
        assert "Stopped." in platform.output
        _, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
        made = {path: path.stat().st_mtime_ns for path in _lasting_files(platform.data_dir)}
        with platform:
            assert platform.output.count("Making demo data") == 1
            assert {path: path.stat().st_mtime_ns for path in _lasting_files(platform.data_dir)} == made
        migrated = bwenge("migrate", "--data-dir", str(platform.data_dir), folder=Path(folder))
        assert (migrated.returncode, migrated.stdout) == (0, "The schema is up to date.\n")


def _lasting_files(data_dir: Path) -> list[Path]:
    return sorted(path for name in ("models", "blobs") for path in (data_dir / name).rglob("*") if path.is_file())


def test_the_signal_of_a_service_manager_stops_it_well() -> None:
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        platform = PlatformProcess(Path(folder) / "data").start()
        os.kill(platform.pid, signal.SIGTERM)
        assert platform.wait_until_dead(seconds=60) == 0
