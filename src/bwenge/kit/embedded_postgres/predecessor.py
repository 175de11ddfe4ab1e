"""Making sure that no server is left on a cluster before another one starts."""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import structlog

from bwenge.kit.embedded_postgres.cluster import Cluster
from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart

_log = structlog.get_logger(__name__)


@contextmanager
def cleared(cluster: Cluster) -> Iterator[int]:
    """Clear what a killed predecessor left, then lend a locked descriptor that the new server is to inherit.

    Every process of a server holds the inherited lock until it ends, orphaned ones too, so having it proves that none
    is left, also where another container's processes cannot be seen.

    Raises:
        PostgresFailedToStart: A server on these files survives every signal, or cannot be seen from here.
    """
    descriptor = os.open(cluster.home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _stop_predecessor(cluster, descriptor)
        _remove_stale_lock_file(cluster)
        shutil.rmtree(cluster.unfinished, ignore_errors=True)
        yield descriptor
    finally:
        os.close(descriptor)


def _stop_predecessor(cluster: Cluster, descriptor: int) -> None:
    for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if _is_alone(cluster, descriptor):
            return
        left = _processes(cluster)
        # Fast and immediate shutdown are asked of the postmaster. Without it SIGINT means other things to the rest.
        leader = [process for process in left if process.pid == cluster.postmaster_pid()]
        for process in leader or left:
            if leader or number != signal.SIGINT:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        _log.warning("stopping_leftover_postgres", signal=number.name, pids=[process.pid for process in left])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not _is_alone(cluster, descriptor):
            time.sleep(0.02)
    if not _is_alone(cluster, descriptor):
        raise PostgresFailedToStart(f"Another PostgreSQL server works on {cluster.directory} and cannot be stopped")


def _is_alone(cluster: Cluster, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # A server that someone started by hand has not inherited the lock, but it has its lock file.
    return not (cluster.postmaster_file.exists() and _processes(cluster))


def _processes(cluster: Cluster) -> list[psutil.Process]:
    """PostgreSQL processes that work on this cluster: each keeps the cluster as its working directory.

    That is what tells them from a stranger that was given the id of a dead postmaster.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == "postgres" and Path(process.cwd()).is_relative_to(cluster.home):
                found.append(process)
    return found


def _remove_stale_lock_file(cluster: Cluster) -> None:
    # PostgreSQL itself recognises a lock file whose process is dead; it cannot recognise one whose id was given anew.
    pid = cluster.postmaster_pid()
    if pid is not None and psutil.pid_exists(pid):
        _log.warning("removing_stale_postmaster_pid", pid=pid)
        cluster.postmaster_file.unlink()
