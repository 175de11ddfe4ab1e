"""`bwenge serve`: one service of the split topology."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

import typer
import uvloop

from bwenge.apps.gateway_service import serve_gateway
from bwenge.apps.one_service import serve_service
from bwenge.apps.settings import Settings
from bwenge.apps.topology import GATEWAY, SERVICES, port_of
from bwenge.apps.web_server import bind
from bwenge.cli.serving import allow_connections, load_secrets, told_plainly
from bwenge.kit.telemetry import configure_logging


def run_service(settings: Settings, name: str, *, host: str, port: int | None, inherited: int | None) -> None:
    """Serve until interrupted; the log goes to standard error, for whoever collects it.

    Raises:
        CommandFailed: the port is taken, or the database does not answer or is not at the present schema.
    """
    if name != GATEWAY and name not in SERVICES:
        raise typer.BadParameter(f"is none of {', '.join((GATEWAY, *SERVICES))}", param_hint="service")
    allow_connections()
    configure_logging(level=settings.log_level)
    port = port or port_of(name, base_port=settings.port)
    with (
        told_plainly(),
        closing(bind(host, port) if inherited is None else socket.socket(fileno=inherited)) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serving(settings, name, listener))


def _serving(settings: Settings, name: str, listener: socket.socket) -> Coroutine[Any, Any, None]:
    if name == GATEWAY:
        return serve_gateway(settings, listener=listener)
    return serve_service(settings, load_secrets(settings), SERVICES[name], listener=listener)
