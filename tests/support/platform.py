"""The platform as its users meet it: a real process of `bwenge up`, spoken to over HTTP and WebSocket."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

import httpx2
import psutil
import websockets

START_SECONDS: Final = 120
PROCESSES_WITH_PORTS: Final = 8
REPOSITORY: Final = Path(__file__).parents[2]


def free_ports(count: int) -> int:
    """The first of so many neighbouring ports that nobody listens on."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PlatformProcess:
    """`bwenge up` on a data directory of the test's own.

    Args:
        module: What to run; a test's own module that calls `bwenge.cli.main` may stand in, to die where it is told.
        environment: Settings; nothing of the developer's own environment reaches the process.
        split: As eight services, a worker and beat, instead of one process.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        demo: bool = False,
        module: str = "bwenge",
        environment: Mapping[str, str] | None = None,
        split: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.port = free_ports(PROCESSES_WITH_PORTS) if split else free_port()
        self._split = split
        self.url = f"http://127.0.0.1:{self.port}"
        self._demo = demo
        self._module = module
        self._environment = {"BWENGE_RATE_LIMITS": "false"} | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._output = data_dir.parent / f"{data_dir.name}.output"

    def start(self, *, ready: bool = True) -> Self:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        arguments = ["up", "--data-dir", str(self.data_dir), "--port", str(self.port)]
        if self._split:
            arguments.append("--split")
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-m", self._module, *arguments, "--demo" if self._demo else "--no-demo"],
                env=kept | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"} | self._environment,
                cwd=self.data_dir.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if ready:
            self.wait_until_ready()
        return self

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def is_running(self) -> bool:
        return self._running.poll() is None

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the platform was not started")
        return self._process

    def wait_until_ready(self) -> None:
        """Until the web server answers and, with demo data, until the words of welcome are printed."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._running.poll() is not None:
                raise RuntimeError(f"the platform ended with {self._running.returncode}:\n{self.output}")
            with contextlib.suppress(httpx2.TransportError):
                answered = httpx2.get(f"{self.url}/health/ready", timeout=2, trust_env=False).status_code == 200
                if answered and "is ready" in self.output:
                    return
            time.sleep(0.05)
        raise TimeoutError(f"the platform was not ready after {START_SECONDS} s:\n{self.output}")

    def pid_of(self, command: str) -> int | None:
        """The process of the split platform whose command line has these words, such as `serve chat`.

        None between the end of one and the start of the next.
        """
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if f"{command} " in " ".join((*child.cmdline(), "")):
                    return child.pid
        return None

    def wait_until_dead(self, *, seconds: float = START_SECONDS) -> int:
        return self._running.wait(seconds)

    def kill(self) -> None:
        """As `kill -9` does: nothing is told, nothing is closed."""
        self._running.kill()
        self._running.wait()

    def stop(self) -> int:
        """As Ctrl-C does; returns the exit code."""
        if self._running.poll() is None:
            self._running.send_signal(signal.SIGINT)
        return self._running.wait(60)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()


class Caller:
    """One signed-in person."""

    def __init__(self, url: str, *, token: str, org_id: str) -> None:
        self.url = url
        self.token = token
        self.org_id = org_id
        # No connection is kept between calls: a killed platform leaves none behind, and none is left open at the end.
        self.http = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=120,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    @classmethod
    def register(cls, url: str, *, name: str = "Claudine") -> "Caller":
        """The owner of a new organisation."""
        mark = uuid4().hex[:12]
        answer = httpx2.post(
            f"{url}/auth/register",
            json={
                "name": name,
                "email": f"{mark}@school.example",
                "password": f"kigali-{mark}",
                "org_name": f"School {mark}",
            },
            timeout=60,
            trust_env=False,
        )
        answer.raise_for_status()
        body = answer.json()
        return cls(url, token=body["access_token"], org_id=body["user"]["org_id"])

    @classmethod
    def log_in(cls, url: str, *, identifier: str, password: str) -> "Caller":
        answer = httpx2.post(
            f"{url}/auth/login",
            json={"identifier": identifier, "password": password},
            timeout=60,
            trust_env=False,
        )
        answer.raise_for_status()
        body = answer.json()
        return cls(url, token=body["access_token"], org_id=body["user"]["org_id"])

    def create_persona(self, name: str = "Gabriel", **fields: Any) -> str:
        answer = self.http.post("/personas", json={"name": name, **fields})
        answer.raise_for_status()
        return str(answer.json()["persona_id"])

    def upload(self, persona_id: str, path: Path, *, name: str | None = None) -> httpx2.Response:
        with path.open("rb") as file:
            return self.http.post(
                "/knowledge/upload", data={"persona_id": persona_id}, files={"file": (name or path.name, file)}
            )

    def status(self, source_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/knowledge/{source_id}/status")
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def statuses(self, source_id: str, *, seconds: float = 300) -> Iterator[dict[str, Any]]:
        """What the status says, as often as one asks, until the source is ready or failed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status(source_id)
            yield status
            if status["status"] in {"ready", "failed"}:
                return
            time.sleep(0.05)
        raise TimeoutError(f"source {source_id} did not end within {seconds} s")

    def wait(self, source_id: str, *, seconds: float = 300) -> dict[str, Any]:
        """The status in which the source ended."""
        return list(self.statuses(source_id, seconds=seconds))[-1]

    def add_document(self, persona_id: str, path: Path) -> str:
        """Upload and wait until it can be asked about; the source's id."""
        answer = self.upload(persona_id, path)
        answer.raise_for_status()
        source_id = str(answer.json()["source_id"])
        ended = self.wait(source_id)
        if ended["status"] != "ready":
            raise RuntimeError(f"{path.name} ended as {ended}")
        return source_id

    def chunks(self, source_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            parameters = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
            page = self.http.get(f"/knowledge/{source_id}/chunks", params=parameters).json()
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def ask(self, persona_id: str, question: str) -> dict[str, Any]:
        """The stateless answer."""
        answer = self.http.post("/ai/respond", json={"persona_id": persona_id, "user_message": question})
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    @contextlib.asynccontextmanager
    async def chat(self, persona_id: str, **parameters: str) -> AsyncIterator["ChatSocket"]:
        query = "&".join(f"{name}={value}" for name, value in {"persona_id": persona_id, **parameters}.items())
        address = f"{self.url.replace('http', 'ws', 1)}/ws/chat?{query}"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with websockets.connect(address, additional_headers=headers, proxy=None, open_timeout=60) as connection:
            yield ChatSocket(connection)


class ChatSocket:
    """One connection of a chat session, frame by frame."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def receive(self, *, seconds: float = 60) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
            return frame

    async def until(self, kind: str, *, seconds: float = 60) -> list[dict[str, Any]]:
        """The frames up to and with the first of that type."""
        frames: list[dict[str, Any]] = []
        async with asyncio.timeout(seconds):
            while not frames or frames[-1]["type"] != kind:
                frames.append(await self.receive(seconds=seconds))
        return frames

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def ask(self, question: str) -> list[dict[str, Any]]:
        """All frames of the turn."""
        await self.send(type="user_message", content=question, client_msg_id=str(uuid4()))
        return await self.until("turn_finished")
