"""Everything in one process: resources, features, the web server, and demo data on the first start."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final

import uvicorn

from bwenge.apps.composition import compose
from bwenge.apps.demo_data import DemoData, Ready
from bwenge.apps.resources import Announce, Server, open_resources
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.web import create_app
from bwenge.kit.http.connections import BoundedHTTPProtocol, ImpatientWebSocketProtocol
from bwenge.providers.embedding.base import Embedder

STOP_SECONDS: Final = 25
"""How long running answers and jobs may take to end after the signal."""

DATABASE_CHECK_SECONDS: Final = 0.5


class PortTaken(RuntimeError):
    def __init__(self, settings: Settings, reason: str) -> None:
        super().__init__(f"Cannot listen on {settings.host}:{settings.port}: {reason}. Choose another with --port.")


class DatabaseDied(RuntimeError):
    """A new process recovers the database from its log; this one has no server to speak to."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL ended unexpectedly, and the platform with it. Start it again: nothing is lost.")


class DrainingServer(uvicorn.Server):
    """A web server that, told to stop, first lets what runs over its sockets come to an end; told twice, stops."""

    def __init__(self, config: uvicorn.Config, *, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike the overridden one, do not raise the signal again afterwards: the caller has more to close."""
        del frame
        if self._draining is None and self.started:
            self._draining = asyncio.get_running_loop().create_task(self._drain_and_exit())
            return
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def _drain_and_exit(self) -> None:
        try:
            await self._drain()
        finally:
            self.should_exit = True


def bind(settings: Settings) -> socket.socket:
    """Take the port before anything else is made or started; connections are refused until the platform serves.

    Raises:
        PortTaken
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortTaken(settings, error.strerror or str(error)) from error
    return listener


def listen(listener: socket.socket, settings: Settings) -> None:
    """Two processes that start at once may both bind; the kernel lets the first one listen."""
    try:
        listener.listen()
    except OSError as error:
        raise PortTaken(settings, error.strerror or str(error)) from error


async def serve(
    settings: Settings,
    secrets: Secrets,
    *,
    listener: socket.socket,
    server: Server,
    embedder: Embedder,
    announce: Announce,
    on_ready: Callable[[Ready], None],
) -> None:
    """Run on the socket that `bind` made, until a signal stops the web server.

    Raises:
        PortTaken, DatabaseDied
    """
    async with open_resources(settings, secrets, server=server, embedder=embedder) as resources:
        platform = compose(settings, secrets, resources)
        listen(listener, settings)
        web = DrainingServer(_web_config(settings, create_app(settings, platform)), drain=platform.drain)
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        watching = asyncio.create_task(_stop_without_database(web, server))
        try:
            while not web.started and not serving.done():  # noqa: ASYNC110  # uvicorn has a flag and no event
                await asyncio.sleep(0.01)
            if web.started:
                demo = DemoData(settings, secrets, platform)
                ready = await _unless_stopped(demo, announce, serving)
                if ready is not None:
                    on_ready(ready)
            await serving
            if server.has_died:
                raise DatabaseDied
            if not web.started:
                raise RuntimeError("the web server did not start; its log says why")
        finally:
            web.should_exit = True
            watching.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)


async def _stop_without_database(web: uvicorn.Server, server: Server) -> None:
    """A platform whose own database is gone serves nobody: it ends, so that whoever supervises it starts it again."""
    while not server.has_died:  # noqa: ASYNC110  # a thread learns of it, and has no event for this loop
        await asyncio.sleep(DATABASE_CHECK_SECONDS)
    web.should_exit = True


async def _unless_stopped(demo: DemoData, announce: Announce, serving: asyncio.Task[None]) -> Ready | None:
    """Make demo data; None where the server was told to stop meanwhile."""
    making = asyncio.create_task(demo.ensure(announce))
    await asyncio.wait({making, serving}, return_when=asyncio.FIRST_COMPLETED)
    if making.done():
        return making.result()
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    return None


def _web_config(settings: Settings, app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Who forwards may say for whom: nobody, unless the operator names the proxies in front.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        http=BoundedHTTPProtocol,
        ws=ImpatientWebSocketProtocol,
        ws_max_size=64 * 1024 + 1,
        # The chat protocol's: an idle socket is pinged every 30 s, and closed when two pings' time passes unanswered.
        ws_ping_interval=30,
        ws_ping_timeout=60,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
