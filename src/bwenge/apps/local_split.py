"""The split topology on one machine: eight services, a worker and beat as processes, with what they stand on."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx2
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.engine import URL

from bwenge.apps.all_in_one import DATABASE_CHECK_SECONDS, DatabaseDied
from bwenge.apps.children import Child, Program, stop_all
from bwenge.apps.composition import compose
from bwenge.apps.demo_data import DemoData, Ready
from bwenge.apps.local_redis import prepare_redis
from bwenge.apps.resources import Announce, Server, lazy_embedder, open_resources
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings, reachable_host
from bwenge.apps.topology import GATEWAY, SERVICES, port_of
from bwenge.apps.web_server import STOP_SECONDS, PortTaken, bind
from bwenge.kit.db import SINGLE

START_SECONDS: Final = 120.0
_CHECK_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = STOP_SECONDS + 10.0
"""A service closes what it holds after its last answer."""

JOBS_AT_ONCE: Final = 2
"""Each in a process with a model of its own; a machine that has room for more has one for more workers, too."""

LOOPBACK: Final = "127.0.0.1"

GATEWAY_ENVIRONMENT: Final = frozenset(
    "BWENGE_ENV BWENGE_LOG_LEVEL BWENGE_PUBLIC_URL BWENGE_TRUSTED_HOSTS BWENGE_TRUSTED_PROXIES BWENGE_CORS_ORIGINS"
    " BWENGE_RATE_LIMITS BWENGE_RATE_LIMIT_FLOOD BWENGE_HOST BWENGE_PORT BWENGE_SERVICE_URL BWENGE_DATA_DIR"
    " PATH HOME LANG LC_ALL TMPDIR TZ LD_LIBRARY_PATH PYTHONPATH VIRTUAL_ENV".split()
)
"""The names that the gateway's environment holds: no secret's, and no store's address."""


class ServicesNotReady(RuntimeError):
    def __init__(self, names: Iterable[str], logs: Path) -> None:
        super().__init__(f"Not ready after {START_SECONDS:.0f} s: {', '.join(names)}. Their logs in {logs} say why.")


def bind_ports(settings: Settings) -> socket.socket:
    """The gateway's port, kept for each gateway in turn: between two, clients wait instead of being refused.

    Raises:
        PortTaken: One of the eight is not free. The services take theirs a moment later.
    """
    listener = bind(settings.host, settings.port)
    try:
        for name in SERVICES:
            bind(LOOPBACK, port_of(name, base_port=settings.port)).close()
    except PortTaken:
        listener.close()
        raise
    return listener


class LocalSplit:
    """The processes, from their start to their end; the database is the caller's.

    Raises:
        NoRedis: There is no Redis server to be had, which `require_redis` tells before.
    """

    def __init__(self, settings: Settings, secrets: Secrets, server: Server, *, listener: socket.socket) -> None:
        self._settings = settings
        self._secrets = secrets
        self._server = server
        self._listener = listener
        self.logs = settings.data_dir / "logs"
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._redis: list[Child] = []
        if settings.redis_url is None:
            redis = prepare_redis(settings.data_dir / "redis", password=secrets.broker_password)
            self._redis.append(self._child("redis", redis.command, {}))
            self._redis_url = redis.url
        else:
            self._redis_url = settings.redis_url.get_secret_value()
        shared = _environment(settings, database=server.url, redis_url=self._redis_url)
        behind = shared | {"BWENGE_TRUSTED_PROXIES": LOOPBACK}
        self._persona = self._child("persona", _bwenge("serve", "persona"), behind)
        self._others = [
            self._gateway({name: shared[name] for name in GATEWAY_ENVIRONMENT & shared.keys()}, listener.fileno()),
            *(self._child(name, _bwenge("serve", name), behind) for name in SERVICES if name != "persona"),
            self._child("worker", _bwenge("worker", "--concurrency", str(JOBS_AT_ONCE)), shared),
            self._child("beat", _bwenge("beat"), shared),
        ]

    async def run(self, *, announce: Announce, on_ready: Callable[[Ready], None]) -> None:
        """Until a signal; a second one does not wait for what runs.

        Raises:
            ServicesNotReady, DatabaseDied
        """
        async with self._started():
            stopping = self._on_signal()
            work = asyncio.create_task(self._serve(announce, on_ready))
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            announce("Stopping: running answers end first")
            for task in (work, stopping):
                task.cancel()
            results = await asyncio.gather(work, stopping, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _serve(self, announce: Announce, on_ready: Callable[[Ready], None]) -> None:
        announce("Starting eight services, a worker and beat")
        await self._await_ready()
        on_ready(await self._demo(announce))
        while not self._server.has_died:  # noqa: ASYNC110  # a thread learns of it, and has no event for this loop
            await asyncio.sleep(DATABASE_CHECK_SECONDS)
        raise DatabaseDied

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[None]:
        """Chat needs personas to end its turns, and all of them what they stand on."""
        for child in (*self._redis, self._persona, *self._others):
            child.start()
        try:
            yield
        finally:
            # No gateway follows the present one: who calls now is refused at once, and does not wait for nobody.
            self._listener.close()
            await stop_all(self._others, seconds=_GRACE_SECONDS)
            await stop_all([self._persona], seconds=_GRACE_SECONDS)
            await stop_all(self._redis, seconds=_GRACE_SECONDS)

    def _on_signal(self) -> "asyncio.Task[bool]":
        """Done when the operator asks this process to end; asked twice, it ends its children at once."""
        asked = asyncio.Event()

        def ask() -> None:
            if asked.is_set():
                for child in (*self._others, self._persona):
                    child.kill()
            asked.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ask)
        return asyncio.create_task(asked.wait())

    async def _await_ready(self) -> None:
        """The gateway is ready when every service behind it is."""
        base_port = self._settings.port
        async with (
            httpx2.AsyncClient(timeout=5.0, trust_env=False) as client,
            Redis.from_url(self._redis_url, socket_timeout=5.0, socket_connect_timeout=5.0) as redis,
        ):
            waiting: dict[str, Callable[[], Awaitable[bool]]] = {
                name: partial(_is_ready, client, LOOPBACK, port_of(name, base_port=base_port)) for name in SERVICES
            }
            waiting[GATEWAY] = partial(_is_ready, client, reachable_host(self._settings.host), base_port)
            waiting["redis"] = partial(_answers, redis)
            deadline = asyncio.get_running_loop().time() + START_SECONDS
            while waiting:
                waiting = {name: is_ready for name, is_ready in waiting.items() if not await is_ready()}
                if waiting and asyncio.get_running_loop().time() > deadline:
                    raise ServicesNotReady(waiting, self.logs)
                await asyncio.sleep(_CHECK_SECONDS)

    async def _demo(self, announce: Announce) -> Ready:
        """The worker reads its lesson."""
        settings, secrets, embedder = self._settings, self._secrets, lazy_embedder(self._settings)
        async with open_resources(settings, secrets, server=self._server, embedder=embedder, pools=SINGLE) as resources:
            return await DemoData(settings, secrets, compose(settings, secrets, resources)).ensure(announce)

    def _gateway(self, environment: Mapping[str, str], listener: int) -> Child:
        command = _bwenge("serve", GATEWAY, "--socket", str(listener))
        return Child(Program(GATEWAY, command, environment, descriptors=(listener,)), logs=self.logs)

    def _child(self, name: str, command: tuple[str, ...], environment: Mapping[str, str]) -> Child:
        return Child(Program(name, command, environment), logs=self.logs)


def _bwenge(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "bwenge", *arguments)


def _environment(settings: Settings, *, database: URL, redis_url: str) -> dict[str, str]:
    """The operator's own settings, and over them what this topology decides."""
    # Every process logs in as the platform's own roles: the administrator's name and password stay here.
    server = database.set(drivername="postgresql", username=None, password=None)
    server = server.difference_update_query(["user", "password", "passfile"])
    own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return own | {
        "DATABASE_URL": server.render_as_string(hide_password=False),
        "REDIS_URL": redis_url,
        "BWENGE_DATA_DIR": str(settings.data_dir.resolve()),
        "BWENGE_HOST": settings.host,
        "BWENGE_PORT": str(settings.port),
        "BWENGE_SERVICE_URL": f"http://{LOOPBACK}:{{port}}",
    }


async def _answers(redis: Redis) -> bool:
    with suppress(RedisError):
        return bool(await redis.ping())
    return False


async def _is_ready(client: httpx2.AsyncClient, host: str, port: int) -> bool:
    with suppress(httpx2.TransportError):
        return (await client.get(f"http://{host}:{port}/health/ready")).status_code == httpx2.codes.OK
    return False
