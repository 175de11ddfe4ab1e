"""A Redis server for one machine: on loopback, behind a password, with nothing on disk that anybody needs.

Messages and rate limits are all that it holds; the database has the truth, so it may die and come back empty.
"""

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROGRAM: Final = "redis-server"


class NoRedis(RuntimeError):
    def __init__(self) -> None:
        super().__init__(
            f"{PROGRAM} is not installed, and REDIS_URL names no server elsewhere. Install it (Debian and Ubuntu:"
            f" apt install {PROGRAM}), or set REDIS_URL."
        )


@dataclass(frozen=True)
class LocalRedis:
    """How to start it, and where it is then; the URL holds the password."""

    command: tuple[str, ...]
    url: str


def require_redis() -> str:
    """The program's path. Raises `NoRedis`."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise NoRedis
    return program


def prepare_redis(folder: Path, *, password: str) -> LocalRedis:
    """Write its configuration, for the platform's user alone: a command line is everybody's to read.

    Raises:
        NoRedis
    """
    program = require_redis()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = _free_port()
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f"dir {_quoted(str(folder.resolve()))}",
        'save ""',
        "appendonly no",
        "maxmemory 256mb",
        "maxmemory-policy noeviction",
    )
    configuration = folder / "redis.conf"
    configuration.unlink(missing_ok=True)
    descriptor = os.open(configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return LocalRedis((program, str(configuration.resolve())), f"redis://:{password}@127.0.0.1:{port}/0")


def _quoted(value: str) -> str:
    """As redis.conf has values with spaces."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
