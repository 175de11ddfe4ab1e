"""The gateway's process: it has no database and no secret, and knows of the services their addresses and routes."""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.types import Receive, Scope, Send

from bwenge.apps import front_page
from bwenge.apps.published_keys import PublishedKeys
from bwenge.apps.settings import Settings
from bwenge.apps.topology import PUBLIC_ROUTERS, SERVICES, Service, port_of
from bwenge.apps.web import STREAMED, documented_app, install_edge
from bwenge.apps.web_server import serve_until_told, web_config
from bwenge.auth.api_keys import ApiKeys
from bwenge.gateway import wiring
from bwenge.gateway.downstream import GatewayHTTPProtocol
from bwenge.gateway.routing import PublicRoute
from bwenge.gateway.wiring import GatewayFeature
from bwenge.kit.errors import NotFound
from bwenge.kit.http.limits import MAX_BODY_BYTES
from bwenge.kit.http.security import declared_access
from bwenge.knowledge.uploads import MAX_FILE_BYTES

MAX_UPLOAD_BYTES: Final = MAX_FILE_BYTES + 32 * 1024 * 1024
"""Of a form; the service's own limit is lower, and its refusal says more."""

SLOW: Final[Mapping[str, float]] = {
    "/ai/respond": 150.0,
    "/knowledge/upload": 150.0,
    "/orgs/{org_id}/members/import": 600.0,
}
"""Seconds to the answer's head: a language model thinks, a file is kept, a thousand passwords are hashed."""


async def serve_gateway(settings: Settings, *, listener: socket.socket) -> None:
    """Run on the socket until a signal stops the web server.

    Raises:
        PortTaken
    """
    urls = {name: settings.address_of(name, port=port_of(name, base_port=settings.port)) for name in SERVICES}
    keys = PublishedKeys(urls["auth"])
    gateway = wiring.build(
        public_routes(),
        urls,
        check_token=keys.check,
        key_prefix=ApiKeys.prefix,
        fallback=_nowhere,
    )
    config = web_config(
        create_gateway_app(settings, gateway, keys),
        trusted_proxies=settings.trusted_proxies,
        http=GatewayHTTPProtocol,
        # The services' own answers have a date.
        date_header=False,
    )
    await serve_until_told(config, listener=listener, drain=_at_once)


def create_gateway_app(settings: Settings, gateway: GatewayFeature, keys: PublishedKeys) -> FastAPI:
    """The gateway's own pages, the whole platform's document, and behind them what the services answer."""

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        keys.start()
        try:
            yield
        finally:
            await keys.stop()
            await gateway.close()

    app = documented_app((front_page.router,), lifespan=running)
    app.openapi = documented_app((*PUBLIC_ROUTERS, front_page.router)).openapi  # type: ignore[method-assign]  # as there
    app.state.readiness_checks = gateway.readiness_checks
    app.router.default = gateway.app
    install_edge(app, settings)
    return app


def public_routes() -> list[PublicRoute]:
    """Every address that a service shows to the world; those of `documented_app` itself are the gateway's own."""
    return [route for service in SERVICES.values() for route in _routes_of(service)]


def _routes_of(service: Service) -> Iterator[PublicRoute]:
    own = FastAPI(openapi_url=None)
    for router in service.routers:
        own.include_router(router)
    for context in iter_route_contexts(own.routes):
        route: Any = context.original_route
        path = context.path or ""
        if isinstance(route, APIWebSocketRoute):
            yield PublicRoute(path, ("GET",), service.name, needs_token=True, max_body_bytes=0, is_socket=True)
        elif isinstance(route, APIRoute):
            [access] = declared_access(route.dependant)
            bound = MAX_UPLOAD_BYTES if path in STREAMED else MAX_BODY_BYTES
            methods = frozenset(context.methods or ())
            yield PublicRoute(
                path,
                methods,
                service.name,
                needs_token=access.needs_token,
                max_body_bytes=bound,
                head_seconds=SLOW.get(path),
            )


async def _nowhere(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotFound


async def _at_once() -> None:
    """Nothing runs here that could be begun no more: requests end with their services' answers."""
