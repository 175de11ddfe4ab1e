"""Real servers. Most tests start the one cluster of this module again, so each leaves it startable."""

import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from bwenge.kit.data_directory import DataDirectoryInUse
from bwenge.kit.embedded_postgres import EmbeddedPostgres, PostgresFailedToStart
from bwenge.kit.embedded_postgres.account import AS_USER
from bwenge.kit.embedded_postgres.process import Installation
from tests.support.waiting import eventually

PASSWORD = "s3cret +/%@é"
PATIENCE = 30.0  # seconds until a fact that must come true is given up
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

# Starts a server, then commits numbers one by one and prints each after its commit.
WRITER = """
import sys
from pathlib import Path
import psycopg, structlog
from bwenge.kit.embedded_postgres import EmbeddedPostgres
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
server = EmbeddedPostgres(Path(sys.argv[1]), password=sys.argv[2])
server.start()
with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
    connection.execute("DROP TABLE IF EXISTS numbers")
    connection.execute("CREATE TABLE numbers (n integer)")
    print(server.pid, flush=True)
    for n in range(1_000_000):
        connection.execute("INSERT INTO numbers VALUES (%s)", [n])
        print(n, flush=True)
"""

# Becomes the user nobody, then tries to read a file and to connect to a socket.
INTRUDER = """
import os, pwd, socket, sys
nobody = pwd.getpwnam("nobody")
os.setgroups([]); os.setgid(nobody.pw_gid); os.setuid(nobody.pw_uid)
for attempt in (lambda: open(sys.argv[1]), lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[2])):
    try:
        attempt()
        print("admitted")
    except PermissionError:
        print("refused")
"""


@pytest.fixture(scope="module")
def directories() -> Iterator[Callable[[], Path]]:
    """New directories outside of pytest's own.

    Every session of pytest strips group permissions from the parent of its directories, and thereby the mask of the
    access list that lets a server started by root through.
    """
    with ExitStack() as stack:
        yield lambda: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bwenge-")))


@pytest.fixture
def empty_dir(directories: Callable[[], Path]) -> Path:
    return directories()


@pytest.fixture(scope="module")
def data_dir(directories: Callable[[], Path]) -> Path:
    """With a cluster that no server runs on."""
    directory = directories() / "data"
    with EmbeddedPostgres(directory, password=PASSWORD):
        pass
    return directory


@pytest.fixture
def moved(data_dir: Path, empty_dir: Path) -> Iterator[Callable[[str], Path]]:
    """Gives the data directory another name for one test."""
    names: list[Path] = []

    def move(name: str) -> Path:
        names.append(data_dir.rename(empty_dir / name))
        return names[0]

    yield move
    names[0].rename(data_dir)


@pytest.fixture(scope="module")
def server(directories: Callable[[], Path]) -> Iterator[EmbeddedPostgres]:
    """One that stays up, for tests that only look."""
    directory = directories() / "data"
    with EmbeddedPostgres(directory, password=PASSWORD, settings={"listen_addresses": "*"}) as server:
        yield server


def fetch(server: EmbeddedPostgres, statement: str) -> Any:
    with psycopg.connect(server.url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def python(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


def killed_writer(data_dir: Path, *, commits: int) -> tuple[int, int]:
    """Kill -9 a process in the midst of its commits; the id of its postmaster and its last confirmed number."""
    with python("-c", WRITER, str(data_dir), PASSWORD) as parent:
        assert parent.stdout is not None
        postmaster = int(parent.stdout.readline())
        for _ in range(commits):
            parent.stdout.readline()
        parent.kill()
        confirmed = [int(line) for line in parent.stdout.read().splitlines()]
    return postmaster, confirmed[-1] if confirmed else commits - 1


def test_rows_survive_a_restart(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        fetch(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        assert fetch(server, "SELECT answer FROM kept") == 42


def test_an_existing_cluster_starts_within_a_second(data_dir: Path) -> None:
    began = time.monotonic()
    with EmbeddedPostgres(data_dir, password=PASSWORD):
        assert time.monotonic() - began < 1.0


def test_a_stopped_server_is_gone(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        pid = server.pid
    assert not psutil.pid_exists(pid)
    assert not (data_dir / "postgres" / "cluster" / "postmaster.pid").exists()


def test_stopping_twice_is_harmless(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, password=PASSWORD)
    server.start()
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = server.url


def test_the_url_is_read_alike_by_sqlalchemy_and_by_libpq(server: EmbeddedPostgres) -> None:
    url = make_url(server.url)
    assert (url.drivername, url.username, url.password) == ("postgresql+psycopg", "postgres", PASSWORD)
    assert (url.database, url.query["host"], url.query["port"]) == ("bwenge", server.host, "5432")
    assert fetch(server, "SELECT current_database()") == "bwenge"


def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=server.host, port=server.port, user="postgres", password="wrong", dbname="bwenge")


def test_a_start_with_another_password_than_the_cluster_has_is_explained(data_dir: Path) -> None:
    with pytest.raises(PostgresFailedToStart, match="password authentication failed"):
        EmbeddedPostgres(data_dir, password="another").start()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("jit", "off"),
        ("log_statement", "none"),
        ("shared_buffers", "48MB"),
        ("max_connections", "100"),
        ("TimeZone", "UTC"),
        ("unix_socket_permissions", "0700"),
        ("listen_addresses", ""),  # although the fixture asks for "*"
    ],
)
def test_the_server_runs_with(server: EmbeddedPostgres, setting: str, value: str) -> None:
    assert fetch(server, f"SHOW {setting}") == value


def test_settings_are_the_callers_to_change(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, password=PASSWORD, settings={"work_mem": "3MB"}) as server:
        assert fetch(server, "SHOW work_mem") == "3MB"


def test_a_container_with_little_shared_memory_uses_the_system_v_kind(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bwenge.kit.embedded_postgres.tuning._SHARED_MEMORY", Path("/nonexistent"))
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        expected = "sysv" if sys.platform == "linux" else "posix"
        assert fetch(server, "SHOW dynamic_shared_memory_type") == expected


def test_another_database_is_made_beside_the_first(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, password=PASSWORD, database='second "one"') as server:
        assert fetch(server, "SELECT current_database()") == 'second "one"'
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        assert fetch(server, "SELECT count(*) FROM pg_database WHERE NOT datistemplate") == 3


def test_every_way_in_demands_a_scram_password(server: EmbeddedPostgres) -> None:
    assert fetch(server, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules") == ["scram-sha-256"]


def test_text_is_compared_by_code_point_in_every_environment(server: EmbeddedPostgres) -> None:
    collation = "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = 'bwenge'"
    assert fetch(server, collation) == "b C.UTF-8"
    assert fetch(server, "SELECT lower('ÉTÉ')") == "été"


def test_vectors_can_be_stored_and_compared(server: EmbeddedPostgres) -> None:
    fetch(server, "CREATE EXTENSION vector")
    assert fetch(server, "SELECT '[3,4]'::vector <-> '[0,0]'::vector") == 5.0


def test_a_terminals_interrupt_does_not_reach_the_server(server: EmbeddedPostgres) -> None:
    assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the environment from /proc")
def test_secrets_of_the_environment_are_not_passed_on(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWENGE_LLM_API_KEY", "do-not-tell")
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        assert b"do-not-tell" not in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_the_password_is_in_no_file_and_no_command_line(server: EmbeddedPostgres) -> None:
    assert all(PASSWORD not in word for word in psutil.Process(server.pid).cmdline())
    small = (
        path for path in (server.data_dir / "postgres").rglob("*") if path.is_file() and path.parent.name != "base"
    )
    assert all(PASSWORD.encode() not in path.read_bytes() for path in small)


def test_the_log_holds_neither_statements_nor_rows(server: EmbeddedPostgres) -> None:
    fetch(server, "CREATE TABLE letters (body text UNIQUE)")
    fetch(server, "INSERT INTO letters VALUES ('dear diary')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        fetch(server, "INSERT INTO letters VALUES ('dear diary')")
    logs = list((server.data_dir / "postgres" / "log").glob("*.log"))
    assert eventually(lambda: any("duplicate key" in log.read_text() for log in logs))
    assert not any("dear diary" in log.read_text() for log in logs)


@needs_root
def test_another_user_of_the_machine_can_neither_connect_nor_read(server: EmbeddedPostgres) -> None:
    version_file = server.data_dir / "postgres" / "cluster" / "PG_VERSION"
    with python("-c", INTRUDER, str(version_file), f"{server.host}/.s.PGSQL.{server.port}") as intruder:
        output, _ = intruder.communicate(timeout=PATIENCE)
    assert output.split() == ["refused", "refused"]


def test_the_socket_directory_admits_its_owner_only(server: EmbeddedPostgres) -> None:
    status = Path(server.host).stat()
    assert stat.S_IMODE(status.st_mode) == 0o700
    assert status.st_uid == (server.data_dir / "postgres" / "cluster").stat().st_uid


@needs_root
def test_root_does_not_run_the_server_as_root(server: EmbeddedPostgres) -> None:
    process = psutil.Process(server.pid)
    assert set(process.uids()) == {pwd.getpwnam("bwenge-postgres").pw_uid}
    assert 0 not in process.gids()


@needs_root
def test_closed_parent_directories_stay_closed_to_all_others(server: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) & stat.S_IRWXO == 0
    assert stat.S_IMODE(server.data_dir.parent.stat().st_mode) & stat.S_IRWXO == 0


def run_as_nobody(interpreter: str, script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - a Python interpreter
        [interpreter, "-c", script],
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )


def interpreter_of_nobody() -> str | None:
    """A Python that the user nobody can run with our packages; root's own is often below /root."""
    for interpreter in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            if run_as_nobody(interpreter, "import bwenge.kit.embedded_postgres").returncode == 0:
                return interpreter
    return None


@needs_root
def test_an_ordinary_user_runs_the_server_under_its_own_name() -> None:
    interpreter = interpreter_of_nobody()
    if interpreter is None:
        pytest.skip("the user nobody can run no Python interpreter with the project's packages")
    ended = run_as_nobody(
        interpreter,
        """
import tempfile, psutil, psycopg
from pathlib import Path
from bwenge.kit.embedded_postgres import EmbeddedPostgres
with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory), password="x") as server:
    psycopg.connect(server.url.replace("+psycopg", "")).close()
    print(psutil.Process(server.pid).username())
""",
    )
    assert ended.stdout.splitlines()[-1:] == ["nobody"], ended.stderr


def test_a_second_server_in_the_directory_is_refused_by_name(server: EmbeddedPostgres) -> None:
    with pytest.raises(DataDirectoryInUse) as refusal:
        EmbeddedPostgres(server.data_dir, password=PASSWORD).start()
    assert (refusal.value.directory, refusal.value.pid) == (server.data_dir, os.getpid())
    assert fetch(server, "SELECT 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the parent-death signal")
def test_a_killed_parent_takes_its_server_with_it(data_dir: Path) -> None:
    postmaster, _ = killed_writer(data_dir, commits=1)
    assert eventually(lambda: not psutil.pid_exists(postmaster))


@pytest.mark.parametrize("server_too", [False, True])
def test_committed_rows_survive_kill_9_in_the_midst_of_writing(data_dir: Path, *, server_too: bool) -> None:
    postmaster, confirmed = killed_writer(data_dir, commits=100)
    if server_too and psutil.pid_exists(postmaster):
        os.kill(postmaster, signal.SIGKILL)
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        assert fetch(server, "SELECT count(*) FROM numbers") in {confirmed + 1, confirmed + 2}


def test_a_crash_of_the_server_alone_is_recovered_from(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        fetch(server, "CREATE TABLE written_before_a_crash AS SELECT 42 AS answer")
        os.kill(server.pid, signal.SIGKILL)
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        assert fetch(server, "SELECT answer FROM written_before_a_crash") == 42


@contextmanager
def as_owner_of(directory: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program run by the user that the server runs as, which is what could mislead the server."""
    owner = directory.stat()
    account = [str(owner.st_uid), str(owner.st_gid), str(os.getpid()), str(signal.SIGKILL.value)]
    with subprocess.Popen(  # noqa: S603 - our own script
        [*AS_USER, "run", *account, *command], stderr=subprocess.DEVNULL
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def test_a_server_started_by_hand_is_stopped_first(data_dir: Path) -> None:
    home = (data_dir / "postgres").resolve()
    postgres = Installation.find().program("postgres")
    with as_owner_of(home, postgres, "-D", str(home / "cluster"), "-k", str(home), "-h", "") as stranger:
        lock_file = home / "cluster" / "postmaster.pid"
        assert eventually(lambda: lock_file.exists() and "ready" in lock_file.read_text())
        with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
            assert stranger.wait(PATIENCE) == 0
            assert server.pid != stranger.pid


def test_a_lock_file_whose_pid_went_to_a_stranger_is_no_obstacle(data_dir: Path) -> None:
    cluster = (data_dir / "postgres" / "cluster").resolve()
    with as_owner_of(cluster, "/bin/sleep", "60") as stranger:
        assert eventually(lambda: psutil.Process(stranger.pid).name() == "sleep")
        lock_file = cluster / "postmaster.pid"
        lock_file.write_text(f"{stranger.pid}\n{cluster}\n1700000000\n5432\n\n\n  0 0\nready   \n")
        os.chown(lock_file, cluster.stat().st_uid, cluster.stat().st_gid)
        with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
            assert server.pid != stranger.pid
            assert stranger.poll() is None


def test_an_initdb_killed_in_the_middle_is_made_good(empty_dir: Path) -> None:
    unfinished = empty_dir / "postgres" / "cluster.unfinished"
    with python("-c", WRITER, str(empty_dir), PASSWORD) as parent:
        assert eventually((unfinished / "base").exists)
        parent.kill()
    assert not (empty_dir / "postgres" / "cluster").exists()
    with EmbeddedPostgres(empty_dir, password=PASSWORD) as server:
        assert fetch(server, "SELECT 1") == 1
    assert not unfinished.exists()
    assert not (empty_dir / "postgres" / "initdb.password").exists()


def test_a_server_outlives_the_thread_that_started_it(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, password=PASSWORD)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert eventually(lambda: starter.native_id not in {thread.id for thread in psutil.Process().threads()})
        assert fetch(server, "SELECT 1") == 1
        assert "ready" in (data_dir / "postgres" / "cluster" / "postmaster.pid").read_text()
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["long" * 30, "with,comma"])
def test_a_path_unfit_for_a_socket_gets_a_short_private_directory(name: str, moved: Callable[[str], Path]) -> None:
    directory = moved(name)
    with EmbeddedPostgres(directory, password=PASSWORD) as server:
        sockets = Path(server.host)
        assert not sockets.is_relative_to(directory)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert fetch(server, "SELECT 1") == 1
    assert not sockets.exists()


def test_a_short_socket_directory_left_by_a_crash_is_removed(moved: Callable[[str], Path]) -> None:
    directory = moved("long" * 30)
    killed_writer(directory, commits=1)
    left = (directory / "postgres" / "socket").readlink()
    with EmbeddedPostgres(directory, password=PASSWORD) as server:
        assert server.host != str(left)
        assert not left.exists()


def test_a_path_with_characters_that_urls_reserve_works(moved: Callable[[str], Path]) -> None:
    with EmbeddedPostgres(moved("a b+c%20é&=?#"), password=PASSWORD) as server:
        assert Path(server.host).is_relative_to(server.data_dir)
        assert make_url(server.url).query["host"] == server.host
        assert fetch(server, "SELECT 1") == 1


def test_a_failed_start_tells_the_servers_last_words(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, password=PASSWORD, settings={"shared_buffers": "plenty"})
    with pytest.raises(PostgresFailedToStart, match='invalid value for parameter "shared_buffers"') as failure:
        server.start()
    assert failure.value.reason == "PostgreSQL ended while it started"


def test_words_written_after_the_log_collector_started_are_told_too(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, password=PASSWORD, settings={"hba_file": "/nonexistent/pg_hba.conf"})
    with pytest.raises(PostgresFailedToStart, match=r"could not load /nonexistent/pg_hba\.conf"):
        server.start()


def test_a_failed_start_leaves_the_directory_free(data_dir: Path) -> None:
    with pytest.raises(PostgresFailedToStart):
        EmbeddedPostgres(data_dir, password=PASSWORD, settings={"shared_buffers": "plenty"}).start()
    with EmbeddedPostgres(data_dir, password=PASSWORD) as server:
        assert fetch(server, "SELECT 1") == 1
