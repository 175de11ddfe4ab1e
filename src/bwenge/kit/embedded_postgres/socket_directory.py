"""Where the server listens: a directory that admits its own account only, with a path short enough for a socket."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from bwenge.kit.embedded_postgres.account import Account
from bwenge.kit.embedded_postgres.cluster import Cluster
from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart

PORT: Final = 5432
_SOCKET: Final = f".s.PGSQL.{PORT}"
_LONGEST_SOCKET_PATH: Final = 103  # bytes: sizeof(sun_path) - 1, which is 103 on macOS and 107 on Linux


def make_socket_directory(cluster: Cluster) -> Path:
    """A directory of mode 0700 for the server's socket: `home/socket`, or a short one that it then links to.

    The short one is new and has an unpredictable name, so that nobody else on the machine can have prepared it.
    """
    usual = cluster.home / "socket"
    remove_socket_directory(cluster)
    if _is_usable(usual):
        usual.mkdir(mode=0o700)
        cluster.account.own(usual)
        return usual
    for base in (*_runtime_directories(cluster.account), Path("/tmp")):  # noqa: S108 - only a new directory inside
        if _is_usable(base / "postgres-xxxxxxxx") and os.access(base, os.W_OK | os.X_OK):
            short = Path(tempfile.mkdtemp(prefix="postgres-", dir=base))
            cluster.account.own(short)
            usual.symlink_to(short)
            return short
    raise PostgresFailedToStart(f"The path {usual} is too long for a Unix socket, and no shorter directory is writable")


def running_socket_directory(data_dir: Path) -> Path | None:
    """Where the server of another process listens for this data directory; None where none does."""
    directory = (data_dir / "postgres" / "socket").resolve()
    return directory if (directory / _SOCKET).exists() else None


def _runtime_directories(account: Account) -> list[Path]:
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    # Root's own runtime directory is closed to the user that the server runs as.
    return ([Path(session)] if session and account.is_own else []) + [Path(tempfile.gettempdir()).resolve()]


def _is_usable(directory: Path) -> bool:
    """Whether the path fits a socket address and cannot be taken for a list, as libpq takes commas."""
    return len(os.fsencode(directory / _SOCKET)) <= _LONGEST_SOCKET_PATH and "," not in str(directory)


def remove_socket_directory(cluster: Cluster) -> None:
    """Remove the directory that this server, or its killed predecessor, listened in."""
    usual = cluster.home / "socket"
    if usual.is_symlink():
        _empty_socket_directory(cluster, usual.readlink())
        usual.unlink()
    else:
        _empty_socket_directory(cluster, usual)


def _empty_socket_directory(cluster: Cluster, directory: Path) -> None:
    # The link is followed only to a directory that the server's account owns, and only what a server makes is removed.
    with suppress(OSError):
        status = directory.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == cluster.account.uid:
            for name in (_SOCKET, f"{_SOCKET}.lock"):
                (directory / name).unlink(missing_ok=True)
            directory.rmdir()
