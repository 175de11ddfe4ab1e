"""The web server of every process: its port, its bounds, and how it comes to an end."""

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn

from bwenge.kit.http.connections import BoundedHTTPProtocol, ImpatientWebSocketProtocol

STOP_SECONDS: Final = 25
"""How long running answers and jobs may take to end after the signal."""

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the gateway keeps an idle connection, so that it never sends a request into one that is being closed."""


class PortTaken(RuntimeError):
    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"Cannot listen on {host}:{port}: {reason}. Choose another with --port.")


class WebServerNotStarted(RuntimeError):
    def __init__(self) -> None:
        super().__init__("the web server did not start; its log says why")


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
        began = time.monotonic()
        try:
            await self._drain()
        finally:
            # What draining took is not given to the rest once more.
            left = STOP_SECONDS - (time.monotonic() - began)
            self.config.timeout_graceful_shutdown = max(1, round(left))
            self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Take the port before anything else is made or started; connections are refused until the platform serves.

    Raises:
        PortTaken
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise PortTaken(host, port, getattr(error, "strerror", None) or str(error)) from error
    return listener


def listen(listener: socket.socket) -> None:
    """Two processes that start at once may both bind; the kernel lets the first one listen.

    Raises:
        PortTaken
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise PortTaken(host, port, error.strerror or str(error)) from error


async def has_started(web: uvicorn.Server, serving: "asyncio.Task[None]") -> bool:
    """Wait until the server accepts connections; False where it ended instead, and its log says why."""
    while not web.started and not serving.done():  # noqa: ASYNC110  # uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    return web.started


async def serve_until_told(
    config: uvicorn.Config, *, listener: socket.socket, drain: Callable[[], Awaitable[None]]
) -> None:
    """Run on the bound socket until a signal, and drain before the end.

    Raises:
        PortTaken
    """
    listen(listener)
    web = DrainingServer(config, drain=drain)
    await web.serve(sockets=[listener])
    if not web.started:
        raise WebServerNotStarted


def web_config(app: Any, *, trusted_proxies: Sequence[str], **options: Any) -> uvicorn.Config:
    """What every process has in common; `options` are uvicorn's own."""
    common: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # Who forwards may say for whom: nobody, unless the operator names the proxies in front.
        "proxy_headers": bool(trusted_proxies),
        "forwarded_allow_ips": list(trusted_proxies),
        "http": BoundedHTTPProtocol,
        "ws": ImpatientWebSocketProtocol,
        "ws_max_size": 64 * 1024 + 1,
        # The chat protocol's: an idle socket is pinged every 30 s, and closed when two pings' time passes unanswered.
        "ws_ping_interval": 30,
        "ws_ping_timeout": 60,
        "timeout_graceful_shutdown": STOP_SECONDS,
    }
    return uvicorn.Config(app, **(common | options))
