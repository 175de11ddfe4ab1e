"""ASGI middleware: request ids, access log and request metrics, for HTTP and WebSocket alike."""

import re
import time
from typing import Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bwenge.kit.ids import new_id
from bwenge.kit.telemetry import bind_client_address, bind_request_id

_log = structlog.get_logger("bwenge.access")

_CLIENT_LEFT: Final = 499
"""As nginx notes a client that did not wait for the answer; nobody receives it."""
_ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUESTS: Final = Counter("bwenge_http_requests_total", "Requests by route and status", ["method", "route", "status"])
LATENCY: Final = Histogram(
    "bwenge_http_request_seconds",
    "Time from the request's arrival to the end of its answer",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


class RequestContext:
    """Give each request an id, answer with it, and note how the request went.

    The path is logged without its query, which may carry tickets and tokens.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ACCEPTED_ID.fullmatch(given) else new_id().hex
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
                status = int(message.get("status", 101))
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            elif message["type"] == "websocket.close" and not status:
                status = 403  # what a server answers to a handshake that is closed and not accepted
            await send(message)

        client: tuple[str, int] | None = scope.get("client")
        with bind_request_id(request_id), bind_client_address(None if client is None else client[0]):
            try:
                await self._app(scope, receive, send_with_id)
            except BaseException:
                status = status or 500
                raise
            finally:
                _note(scope, status=status or _CLIENT_LEFT, seconds=time.perf_counter() - started)


def _note(scope: Scope, *, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    method = scope.get("method", "WEBSOCKET")
    REQUESTS.labels(method, route, str(status)).inc()
    LATENCY.labels(method, route).observe(seconds)
    _log.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1))
