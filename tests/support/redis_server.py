"""A real Redis server of a test's own, on loopback and without a file."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import eventually


class RedisServer:
    def __init__(self, folder: Path, *, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(  # noqa: S603  # a program of the machine's, with arguments of our own
            [shutil.which("redis-server") or "redis-server", *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, "redis-server answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def require_redis() -> None:
    """Skip where redis-server is not installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A running server; skips where redis-server is not installed."""
    require_redis()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    server = RedisServer(folder, port=port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
