"""One request through the gateway: to a service and back, piece by piece."""

import asyncio
import random
import time
from http import HTTPStatus
from typing import Final

import structlog
from starlette.types import Receive, Send

from bwenge.gateway import metrics
from bwenge.gateway.downstream import GatewayCycle
from bwenge.gateway.errors import BodyTooLarge, BodyTooSlow, Broken, ClientLeft, ServiceTimedOut, ServiceUnavailable
from bwenge.gateway.fields import (
    UPGRADE,
    Fields,
    forwarded_fields,
    head_bytes,
    request_fields,
    response_fields,
    trailer_fields,
    value_of,
)
from bwenge.gateway.routing import PublicRoute
from bwenge.gateway.services import Service
from bwenge.gateway.settings import GatewaySettings
from bwenge.gateway.upstream import Answer, UpstreamConnection
from bwenge.kit.http.limits import MAX_BODY_BYTES
from bwenge.kit.telemetry import current_request_id

_log = structlog.get_logger(__name__)

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
ATTEMPTS: Final = 3
FIRST_PAUSE_SECONDS: Final = 0.1


class Exchange:
    """Passes one request to one service.

    A body that is small by its route's limit is read whole before a connection is taken: a client that is slow to send
    it holds none. Larger ones are passed on as they come.

    Args:
        request: The client's side of it.
        route: Says how much of a body is passed on, and how long the answer's head may take.
    """

    def __init__(
        self, request: GatewayCycle, service: Service, *, route: PublicRoute, settings: GatewaySettings
    ) -> None:
        self._request = request
        self._service = service
        self._max_body_bytes = route.max_body_bytes
        self._head_seconds = settings.head_seconds if route.head_seconds is None else route.head_seconds
        self._settings = settings
        fields = request.scope["headers"]
        self._fields: Fields = list(fields)
        self._is_chunked = value_of(self._fields, b"transfer-encoding") is not None
        self._has_body = self._is_chunked or value_of(self._fields, b"content-length") not in {None, b"0"}

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the request by the service's answer.

        Raises:
            ServiceUnavailable, ServiceTimedOut, BodyTooLarge, BodyTooSlow: Nothing of an answer was sent.
        """
        is_held = self._has_body and self._max_body_bytes <= MAX_BODY_BYTES
        try:
            held = await self._whole_body(receive) if is_held else b""
        except ClientLeft:
            self._count("left")
            return
        self._service.admit()
        started = time.perf_counter()
        connection = await self._connect()
        uploading: asyncio.Task[None] | None = None
        try:
            if self._request.disconnected:
                raise ClientLeft
            self._request.on_lost = lambda: connection.abort(ClientLeft())
            is_to_head = self._request.scope["method"] == "HEAD"
            is_streamed = self._has_body and not is_held
            connection.begin(self._head() + held, is_to_head=is_to_head, has_body=is_streamed)
            if is_streamed:
                uploading = asyncio.create_task(self._upload(connection, receive))
            answer = await self._answer_head(connection)
            metrics.SECONDS_TO_HEAD.labels(self._service.name).observe(time.perf_counter() - started)
            if answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
                await self._switch(connection, answer, send)
            else:
                await self._pass_on(connection, answer, send)
        except ClientLeft:
            self._count("left")
        finally:
            self._request.on_lost = None
            if uploading is not None:
                uploading.cancel()
            if not connection.is_switched:
                self._service.pool.release(connection)

    async def _connect(self) -> UpstreamConnection:
        """A connection on which nothing was written; who may ask twice, tries again for a moment."""
        attempts = ATTEMPTS if self._request.scope["method"] in IDEMPOTENT else 1
        deadline = time.monotonic() + self._settings.retry_seconds
        for attempt in range(1, attempts + 1):
            try:
                return await self._service.pool.acquire()
            except (OSError, ServiceTimedOut) as error:
                pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311  # no secret
                if attempt == attempts or time.monotonic() + pause > deadline:
                    self._service.failed()
                    _log.warning("service_unreachable", service=self._service.name, reason=str(error))
                    if isinstance(error, ServiceTimedOut):
                        raise
                    raise ServiceUnavailable from error
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _head(self) -> bytes:
        scope = self._request.scope
        client, host = scope["client"], value_of(self._fields, b"host")
        fields = request_fields(self._fields)
        if host is None:
            fields.append((b"host", self._service.authority))
        if self._is_chunked:
            fields.append((b"transfer-encoding", b"chunked"))
        if self._request.wants_tunnel:
            fields += UPGRADE
        fields += forwarded_fields(
            client=None if client is None else client[0],
            scheme=scope["scheme"],
            host=host,
            request_id=current_request_id(),
        )
        return head_bytes(b"%b %b HTTP/1.1\r\n" % (scope["method"].encode(), self._request.target), fields)

    async def _whole_body(self, receive: Receive) -> bytes:
        """As it is sent to the service. Raises `BodyTooLarge`, `BodyTooSlow` or `ClientLeft`."""
        body, is_last = bytearray(), False
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while not is_last:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    body += message.get("body", b"")
                    if len(body) > self._max_body_bytes:
                        raise BodyTooLarge
                    is_last = not message.get("more_body", False)
        except TimeoutError as error:
            raise BodyTooSlow from error
        return self._framed(bytes(body), is_last=True)

    def _framed(self, body: bytes, *, is_last: bool) -> bytes:
        if not self._is_chunked:
            return body
        return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")

    async def _upload(self, connection: UpstreamConnection, receive: Receive) -> None:
        """Pass the body on while the service takes it; what ends it too early ends the connection."""
        passed, is_last = 0, False
        while not is_last:
            message = await receive()
            if message["type"] == "http.disconnect":
                connection.abort(ClientLeft())
                return
            body, is_last = message.get("body", b""), not message.get("more_body", False)
            passed += len(body)
            if passed > self._max_body_bytes:
                connection.abort(BodyTooLarge())
                return
            await connection.write(self._framed(body, is_last=is_last), seconds=self._settings.stall_seconds)
            if connection.transport.is_closing():
                return
        connection.finish_request()

    async def _answer_head(self, connection: UpstreamConnection) -> Answer:
        try:
            answer = await connection.head(seconds=self._head_seconds)
            if answer.status == HTTPStatus.SWITCHING_PROTOCOLS and not (
                connection.is_switched and self._request.wants_tunnel
            ):
                connection.abort(Broken())
                raise Broken
        except (Broken, ServiceTimedOut) as error:
            if connection.is_request_sent:
                # Else it may have been the client that was waited for.
                self._service.failed()
            _log.warning("service_gave_no_answer", service=self._service.name, reason=type(error).__name__)
            if isinstance(error, Broken):
                raise ServiceUnavailable from error
            raise
        self._service.answered()
        return answer

    async def _pass_on(self, connection: UpstreamConnection, answer: Answer, send: Send) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": response_fields(answer.fields)})
        is_last = False
        while not is_last:
            try:
                body, is_last = await connection.piece(seconds=self._settings.idle_seconds)
            except (Broken, ServiceTimedOut, BodyTooLarge) as error:
                self._request.break_off()
                self._count("broken")
                _log.warning("answer_broken_off", service=self._service.name, reason=type(error).__name__)
                return
            trailers = trailer_fields(answer.trailers) if is_last else []
            await send({"type": "http.response.body", "body": body, "more_body": not is_last, "trailers": trailers})
        self._count("answered")

    async def _switch(self, connection: UpstreamConnection, answer: Answer, send: Send) -> None:
        self._service.pool.let_go(connection)
        gauge = metrics.TUNNELS.labels(self._service.name)
        try:
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": response_fields(answer.fields)}
            )
        except BaseException:
            connection.abort(ClientLeft())
            raise
        gauge.inc()
        self._count("answered")
        self._request.switch(connection, on_end=gauge.dec)

    def _count(self, outcome: str) -> None:
        metrics.REQUESTS.labels(self._service.name, outcome).inc()
