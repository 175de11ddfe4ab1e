"""One service of the split topology, behind the gateway, on a database that others have prepared."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from bwenge.apps.composition import Platform, compose, service_calls
from bwenge.apps.resources import Resources, await_schema, lazy_embedder, open_resources, shared_server
from bwenge.apps.scratch import Scratch
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.topology import Service, port_of
from bwenge.apps.web import create_service_app
from bwenge.apps.web_server import KEEP_ALIVE_SECONDS, serve_until_told, web_config
from bwenge.persona.remote import RemoteReplies

LOOPBACK: Final = ("127.0.0.1", "::1")
"""Whom a service believes who the client is where no setting names the gateway's addresses."""


async def serve_service(settings: Settings, secrets: Secrets, service: Service, *, listener: socket.socket) -> None:
    """Run on the socket until a signal stops the web server.

    Raises:
        NoDatabase, PortTaken
        SchemaTooOld: The database was not migrated in time.
    """
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(_resources(settings, secrets, service))
        remote = await stack.enter_async_context(_replies_elsewhere(settings, secrets))
        spool = stack.enter_context(Scratch.claim(settings.data_dir / "uploads"))
        platform = replace(compose(settings, secrets, resources, remote_replies=remote), spool=spool.path)
        app = create_service_app(platform, service, lifespan=lambda _app: _running(platform, service))
        proxies = settings.trusted_proxies or LOOPBACK
        config = web_config(app, trusted_proxies=proxies, timeout_keep_alive=KEEP_ALIVE_SECONDS)
        await serve_until_told(config, listener=listener, drain=platform.drain)


@asynccontextmanager
async def _resources(settings: Settings, secrets: Secrets, service: Service) -> AsyncIterator[Resources]:
    server = shared_server(settings)
    embedder = lazy_embedder(settings)
    async with open_resources(settings, secrets, server=server, embedder=embedder, pools=service.pools) as resources:
        await await_schema(resources.database)
        if service.embeds:
            await asyncio.to_thread(embedder.load)
        yield resources


@asynccontextmanager
async def _replies_elsewhere(settings: Settings, secrets: Secrets) -> AsyncIterator[RemoteReplies]:
    address = settings.address_of("persona", port=port_of("persona", base_port=settings.port))
    replies = RemoteReplies(address, service_calls(secrets))
    try:
        yield replies
    finally:
        await replies.close()


@asynccontextmanager
async def _running(platform: Platform, service: Service) -> AsyncIterator[None]:
    """What one service does beside answering; jobs are the workers'."""
    await platform.begin({service.name})
    try:
        yield
    finally:
        await platform.stop()
