"""The life of the embedded server, from an empty directory to its last checkpoint."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Final, Self
from urllib.parse import quote

import psycopg
import structlog
from psycopg import sql

from bwenge.kit.data_directory import DataDirectoryLock
from bwenge.kit.embedded_postgres.account import ensure_reachable, server_account
from bwenge.kit.embedded_postgres.cluster import Cluster, initialise
from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart
from bwenge.kit.embedded_postgres.predecessor import cleared
from bwenge.kit.embedded_postgres.process import Installation, ServerProcess, last_lines
from bwenge.kit.embedded_postgres.socket_directory import (
    PORT,
    make_socket_directory,
    remove_socket_directory,
    running_socket_directory,
)
from bwenge.kit.embedded_postgres.tuning import server_settings

DATABASE: Final = "bwenge"
_SUPERUSER: Final = "postgres"
_READINESS_INTERVAL: Final = 0.005
_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """PostgreSQL below `data_dir/postgres`, for this process and those it hands `url` to.

    It listens on a Unix socket only and demands the password. It is a child of this process and ends with it.

    Args:
        data_dir: Made if missing. One process at a time may run a server in it.
        password: Of the superuser; fixed when the cluster is first made.
        database: Made if missing.
        settings: Of postgresql.conf, over those of `tuning`; what keeps other users out cannot be changed.
        start_seconds: How long the server may take to accept connections, crash recovery included.
        stop_seconds: How long a fast shutdown may take before an immediate one.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        password: str,
        database: str = DATABASE,
        settings: Mapping[str, str] = _NO_SETTINGS,
        start_seconds: float = 120.0,
        stop_seconds: float = 15.0,
    ) -> None:
        if not password or not password.isprintable():
            raise ValueError("The password must be one line of printable characters")
        self.data_dir = data_dir
        self.port = PORT
        self.database = database
        self._password = password
        self._settings = dict(settings)
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._lock = DataDirectoryLock(data_dir, name="postgres.lock")
        self._cluster: Cluster | None = None
        self._socket_directory: Path | None = None
        self._server: ServerProcess | None = None

    def start(self) -> None:
        """Return when the database accepts connections; waits without an event loop.

        Raises:
            DataDirectoryInUse: Another process runs, or is starting, a server in this directory.
            PostgresFailedToStart: With the last lines of the server's log.
        """
        self._lock.acquire()
        try:
            self._start_locked()
        except BaseException:
            self.stop()
            raise

    def _start_locked(self) -> None:
        began = time.monotonic()
        installation = Installation.find()
        home = (self.data_dir / "postgres").resolve()
        cluster = self._cluster = Cluster(home, server_account(home))
        cluster.make_home()
        with cleared(cluster) as lock, tempfile.TemporaryFile() as output:
            sockets = self._socket_directory = make_socket_directory(cluster)
            ensure_reachable(cluster.account, home, sockets, installation=installation.directory)
            initialise(cluster, installation, password=self._password, lock=lock)
            self._server = ServerProcess(
                self._command(installation, cluster), account=cluster.account, inherit=lock, output=output
            )
            self._await_ready(cluster, self._server, output)
        self._ensure_database()
        _log.info("postgres_started", pid=self.pid, seconds=round(time.monotonic() - began, 3))

    def _command(self, installation: Installation, cluster: Cluster) -> list[str]:
        settings = server_settings(self._settings, log_directory=cluster.logs, socket_directory=Path(self.host))
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [installation.program("postgres"), "-D", str(cluster.directory), "-p", str(self.port), *options]

    def _await_ready(self, cluster: Cluster, server: ServerProcess, output: IO[bytes]) -> None:
        written_before = _log_sizes(cluster.logs)
        deadline = time.monotonic() + self._start_seconds
        while not cluster.is_ready(server.pid):
            if server.exited.wait(_READINESS_INTERVAL):
                reason = "PostgreSQL ended while it started"
            elif time.monotonic() > deadline:
                reason = f"PostgreSQL was not ready after {self._start_seconds:.0f} s"
            else:
                continue
            raise PostgresFailedToStart(reason, log=_log_tail(cluster.logs, written_before, output=output))

    def _ensure_database(self) -> None:
        try:
            with psycopg.connect(
                host=self.host,
                port=self.port,
                user=_SUPERUSER,
                password=self._password,
                dbname="postgres",
                autocommit=True,
                connect_timeout=10,
            ) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone()
                if known is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))
        except psycopg.OperationalError as error:
            raise PostgresFailedToStart(f"PostgreSQL runs but refuses this process: {error}") from error

    def stop(self) -> None:
        """Shut down, by force where it takes too long, and give the data directory up; without effect if stopped."""
        if self._server is not None:
            self._server.stop(fast_seconds=self._stop_seconds)
            self._server = None
        if self._cluster is not None and self._socket_directory is not None:
            remove_socket_directory(self._cluster)
            self._socket_directory = None
        self._lock.release()

    @property
    def host(self) -> str:
        """The directory of the Unix socket, as libpq takes it for a host."""
        if self._socket_directory is None:
            raise RuntimeError("The embedded PostgreSQL has not been started")
        return str(self._socket_directory)

    @property
    def url(self) -> str:
        """SQLAlchemy's URL for the superuser; without `+psycopg` also a connection URI of libpq."""
        password, database, host = (quote(part, safe="") for part in (self._password, self.database, self.host))
        return f"postgresql+psycopg://{_SUPERUSER}:{password}@/{database}?host={host}&port={self.port}"

    @property
    def pid(self) -> int:
        """The postmaster."""
        if self._server is None:
            raise RuntimeError("The embedded PostgreSQL has not been started")
        return self._server.pid

    @property
    def has_died(self) -> bool:
        """Whether the server ended without having been told to."""
        return self._server is not None and self._server.exited.is_set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def running_server(data_dir: Path, *, database: str = DATABASE) -> str | None:
    """SQLAlchemy's URL, without a role, of the server that another process runs there; None where none does.

    For guests: the server ends with that process.
    """
    sockets = running_socket_directory(data_dir)
    if sockets is None:
        return None
    return f"postgresql+psycopg:///{database}?host={quote(str(sockets), safe='')}&port={PORT}"


def _log_sizes(logs: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in logs.glob("*.log")}


def _log_tail(logs: Path, written_before: Mapping[Path, int], *, output: IO[bytes]) -> str:
    """What this start wrote: to its own output until the log collector ran, then to the collector's files."""
    output.seek(0)
    collected = (path.read_bytes()[written_before.get(path, 0) :] for path in sorted(logs.glob("*.log")))
    return last_lines(b"".join([output.read(), *collected]).decode("utf-8", errors="replace"))
