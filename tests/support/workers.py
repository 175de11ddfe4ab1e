"""Real worker and beat processes beside an application in the test's own process, on one database and one Redis."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from tests.support.platform import REPOSITORY


class WorkerProcess:
    """`bwenge worker` or `bwenge beat`, with its output in a file."""

    def __init__(self, arguments: list[str], *, environment: Mapping[str, str], output: Path) -> None:
        self._output = output
        with output.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-m", "tests.support.hasty_worker", *arguments],
                env=environment,
                cwd=output.parent,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def terminate(self) -> None:
        """Tell it to stop, as a supervisor does."""
        self._process.terminate()

    def stop(self) -> int:
        """Tell it to stop and wait; returns the exit code."""
        self.terminate()
        return self._process.wait(60)

    def kill(self) -> None:
        """The whole of it, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)


@dataclass(frozen=True)
class Workshop:
    """Where workers are started: what they share with the application."""

    database_url: URL
    redis_url: str
    data_dir: Path
    logs: Path

    @contextmanager
    def worker(self, *arguments: str, **told: str) -> Iterator[WorkerProcess]:
        with self._running(["worker", "--concurrency", "2", *arguments], told) as process:
            yield process

    @contextmanager
    def beat(self) -> Iterator[WorkerProcess]:
        with self._running(["beat"], {}) as process:
            yield process

    @contextmanager
    def _running(self, arguments: list[str], told: Mapping[str, str]) -> Iterator[WorkerProcess]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        environment = kept | {
            "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}",
            "BWENGE_DATA_DIR": str(self.data_dir),
            "DATABASE_URL": self.database_url.render_as_string(hide_password=False),
            "REDIS_URL": self.redis_url,
            "MARKS": str(self.logs),
            **told,
        }
        process = WorkerProcess(arguments, environment=environment, output=self.logs / f"{arguments[0]}.output")
        try:
            yield process
        finally:
            process.kill()
