"""Everything in one process: resources, features, the web server, and demo data on the first start."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import uvicorn

from bwenge.apps.composition import compose
from bwenge.apps.demo_data import DemoData, Ready
from bwenge.apps.resources import Announce, Server, open_resources
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.web import create_app
from bwenge.apps.web_server import DrainingServer, WebServerNotStarted, has_started, listen, web_config
from bwenge.providers.embedding.base import Embedder

DATABASE_CHECK_SECONDS: Final = 0.5


class DatabaseDied(RuntimeError):
    """A new process recovers the database from its log; this one has no server to speak to."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL ended unexpectedly, and the platform with it. Start it again: nothing is lost.")


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
        listen(listener)
        config = web_config(create_app(settings, platform), trusted_proxies=settings.trusted_proxies)
        web = DrainingServer(config, drain=platform.drain)
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        watching = asyncio.create_task(_stop_without_database(web, server))
        try:
            if await has_started(web, serving):
                demo = DemoData(settings, secrets, platform)
                ready = await _unless_stopped(demo, announce, serving)
                if ready is not None:
                    on_ready(ready)
            await serving
            if server.has_died:
                raise DatabaseDied
            if not web.started:
                raise WebServerNotStarted
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
