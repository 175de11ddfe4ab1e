"""The clients' side: uvicorn's HTTP connections, stricter, and able to become tunnels."""

import asyncio
import re
import socket
import struct
import time
import urllib.parse
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from bwenge.gateway.errors import ClientLeft
from bwenge.gateway.fields import UPGRADE, Fields, head_bytes, tokens, value_of
from bwenge.gateway.tunnel import Tunnel
from bwenge.gateway.upstream import BODILESS, UpstreamConnection
from bwenge.kit.http.connections import MAX_HEAD_BYTES, BoundedHTTPProtocol, last_answer
from bwenge.kit.http.problems import status_response

DOWNSTREAM: Final = "bwenge.downstream"
"""The key in an ASGI scope's extensions under which the connection's side of the exchange, a `GatewayCycle`, is."""

EARLY_BYTES: Final = 64 * 1024
"""What a client may send after an upgrade's head before it is read no more."""

REFUSED_METHODS: Final = frozenset({b"CONNECT", b"TRACE"})
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%:\[\]-]*")
_ABSOLUTE: Final = re.compile(rb"https?://(?P<host>[^/?#@]*)(?P<rest>.*)", re.IGNORECASE)


class Malformed(Exception):
    """A head that the gateway answers by itself: it could be read in two ways, or asks for what no service does."""

    def __init__(self, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class RequestParser(httptools.HttpRequestParser):
    """Keeps what follows an upgrade's head, which uvicorn drops."""

    after_upgrade = b""

    def feed_data(self, data: Any) -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.after_upgrade = bytes(data[upgrade.args[0] :])


class GatewayCycle(RequestResponseCycle):
    """One request and its answer, written as it comes: a 304 with its length, trailers, and 101.

    Beside `receive` and `send`, the proxy asks it for what ASGI has no words for.
    """

    connection: "GatewayHTTPProtocol"
    target: bytes
    wants_tunnel = False
    on_lost: Callable[[], None] | None = None
    """Called when the client goes away before its answer is whole."""

    _is_bodiless = False
    _ends_with_connection = False
    _unwritten = b""

    async def run_asgi(self, app: Any) -> None:
        try:
            await super().run_asgi(app)
        finally:
            self.on_lost = None
            # It leads back to this cycle, and both would wait for the garbage collector.
            self.scope["extensions"] = {}

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._start(message["status"], list(message.get("headers", ())))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._write(message.get("body", b""), message)
        else:
            raise RuntimeError(f"{kind} does not follow what was sent before it")

    def switch(self, service: UpstreamConnection, *, on_end: Callable[[], None]) -> None:
        """After 101 was sent: pass bytes between the client and the service until one of them ends."""
        self.response_complete = True
        self.connection.become_tunnel(service, on_end=on_end)

    def break_off(self) -> None:
        """End the connection before the answer is whole, so that nobody takes it for a whole one."""
        self._write_head()
        self.disconnected = True
        if self._ends_with_connection:
            # Only a reset tells this end from the answer's own.
            peer = self.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        else:
            self.transport.close()

    def _start(self, status: int, fields: Fields) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            self.transport.write(head_bytes(STATUS_LINE[status], [*fields, *UPGRADE]))
            return
        length = value_of(fields, b"content-length")
        self._is_bodiless = self.scope["method"] == "HEAD" or status in BODILESS
        self.chunked_encoding = False
        if length is not None:
            self.expected_content_length = int(length)
        elif not self._is_bodiless and self.scope["http_version"] == "1.0":
            self._ends_with_connection = True
        elif not self._is_bodiless:
            self.chunked_encoding = True
            fields.append((b"transfer-encoding", b"chunked"))
        if value_of(fields, b"date") is None:
            fields.append((b"date", _date(int(time.time()))))
        # Answered before it was whole, a request leaves bytes behind that are no next one.
        is_closing = self.more_body or self._ends_with_connection
        is_closing = is_closing or b"close" in tokens(value_of(fields, b"connection") or b"")
        if is_closing or not self.keep_alive:
            self.keep_alive = False
            fields = [field for field in fields if field[0] != b"connection"] + [(b"connection", b"close")]
        # With the first piece of the body, where that is there already: one system call for both.
        self._unwritten = head_bytes(STATUS_LINE[status], fields)
        self.connection.loop.call_soon(self._write_head)

    def _write_head(self) -> None:
        head, self._unwritten = self._unwritten, b""
        if head and not self.transport.is_closing():
            self.transport.write(head)

    def _write(self, body: bytes, message: Any) -> None:
        is_last = not message.get("more_body", False)
        pieces = [self._unwritten] if self._unwritten else []
        self._unwritten = b""
        if self._is_bodiless:
            self.expected_content_length = 0
        elif self.chunked_encoding:
            pieces += [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            if is_last:
                pieces.append(head_bytes(b"0\r\n", message.get("trailers", [])))
        elif not self._ends_with_connection and len(body) > self.expected_content_length:
            raise RuntimeError("the answer is longer than its Content-Length")
        else:
            self.expected_content_length -= len(body)
            pieces.append(body)
        self.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if is_last:
            if self.expected_content_length > 0:
                raise RuntimeError("the answer is shorter than its Content-Length")
            self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.connection.end(lingers=self.more_body)
        self.on_response()


class GatewayHTTPProtocol(BoundedHTTPProtocol):
    """Refuses what could be read in two ways, and hands a WebSocket's upgrade to the application as a request.

    That request's cycle has `wants_tunnel`; what the client sends after its head waits, up to `EARLY_BYTES`. After any
    upgrade, asked for or given, no second request is read. Trailers of requests are dropped: uvicorn's applications
    take them for header fields.
    """

    linger_seconds: ClassVar[float] = 2.0
    """For how long a client that is still sending is listened to after its answer, so that it can read that."""

    drain_seconds: ClassVar[float] = 2.0
    """After the server was told to stop, open tunnels are ended: clients connect again, and what they asked goes on."""

    cut_seconds: ClassVar[float] = 2.0
    """How long after that a client may take what is left for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._active: GatewayCycle | None = None
        self._tunnel: Tunnel | None = None
        self._is_in_body = False
        self._is_upgrade = False
        self._is_draining = False
        self._early = bytearray()
        self._malformed: Malformed | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in self._timers:
            timer.cancel()
        self.pipeline.clear()
        if self._tunnel is not None:
            self._tunnel.client_lost(exc)
        self._give_up(self._active)

    def shutdown(self) -> None:
        """Told that the server stops: a tunnel has a moment, in which what is under way arrives."""
        self._is_draining = True
        if self._tunnel is None:
            super().shutdown()
        else:
            self._end_tunnel_in_time(self._tunnel)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._tunnel is not None:
            self._tunnel.client_is_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._tunnel is not None:
            self._tunnel.client_has_room()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn's own never keeps the other half open
        if self._tunnel is None:
            return None
        self._tunnel.client_finished()
        return True

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.from_client(data)
        elif self._is_upgrade:
            self._hold(data)
        else:
            parser = self.parser
            super().data_received(data)
            if self._is_upgrade and isinstance(parser, RequestParser):
                self._hold(parser.after_upgrade)

    def become_tunnel(self, service: UpstreamConnection, *, on_end: Callable[[], None]) -> None:
        """Nothing that comes or goes is HTTP any more."""
        self._stop_watching()
        if self.transport.is_closing():
            service.abort(ClientLeft())
            on_end()
            return
        tunnel = self._tunnel = Tunnel(
            self.transport, service.transport, on_end=on_end, silence_seconds=self.silence_seconds
        )
        self.flow.resume_reading()
        service.become(tunnel)
        if self.flow.write_paused:
            tunnel.client_is_full()
        tunnel.from_client(bytes(self._early))
        self._early.clear()
        if self._is_draining:
            self._end_tunnel_in_time(tunnel)

    def end(self, *, lingers: bool) -> None:
        """Close the connection after what was written; a client that still sends is let do so for a moment.

        Closed with bytes unread, TCP tells it of a reset, and it never reads its answer.
        """
        # What still comes may be left unread where answers end before requests do.
        lingers = lingers or self._is_deaf
        self._listen_no_more()
        if lingers and self.transport.can_write_eof() and not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()
            self._timers.append(self.loop.call_later(self.linger_seconds, self.transport.close))
        else:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._is_in_body = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_body:
            self._count(name, value)
        else:
            # What stands between and after them is held and passed on, too.
            self._field_bytes += len(b": \r\n")
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """In place of uvicorn's, whose application is asked after fewer checks, and answers by another cycle."""
        self._waiting_bytes = 0
        self._require_few_waiting()
        self._is_in_body = True
        try:
            cycle = self._cycle(self._checked_target())
        except Malformed as malformed:
            self._malformed = malformed
            raise
        is_first = self._active is None or self._active.response_complete
        self.cycle = cycle
        if is_first:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def send_400_response(self, msg: str) -> None:
        """What the parser's failure is answered with, where an answer would not end up inside of another one."""
        if self._is_deaf:
            return
        active = self._active
        if active is None or active.response_complete:
            self._refuse_head(msg)
        elif active is self.cycle and active.more_body:
            was_answered = active.response_started
            self._give_up(active)
            if was_answered:
                self.transport.close()
            else:
                self._refuse_head(msg)
        else:
            self.pipeline.clear()
            active.keep_alive = False
            self._listen_no_more()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """To uvicorn, a WebSocket's handshake is a request like any other."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade to anything else is a request like any other, too, and no reason to warn."""

    def _checked_target(self) -> bytes:
        """The target in origin form. Raises `Malformed` for a head that two readers could understand in two ways."""
        version = self.parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            raise Malformed("Only HTTP/1.1 and HTTP/1.0 are spoken here", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if self.parser.get_method() in REFUSED_METHODS:
            raise Malformed("No address has this method", HTTPStatus.METHOD_NOT_ALLOWED)
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_HOST.fullmatch, hosts)):
            raise Malformed("A request has one Host")
        encodings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if encodings and version == "1.0":
            raise Malformed("HTTP/1.0 has no Transfer-Encoding")
        if encodings not in ([], [b"chunked"]):
            raise Malformed("No Transfer-Encoding but chunked is read", HTTPStatus.NOT_IMPLEMENTED)
        target = self.url
        if not target.startswith(b"/"):
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is None or [absolute["host"].lower()] != [host.lower() for host in hosts]:
                raise Malformed("The target is not of this host")
            target = absolute["rest"] if absolute["rest"].startswith(b"/") else b"/" + absolute["rest"]
        if b"#" in target or not target.isascii():
            raise Malformed("The target is no address")
        return target

    def _cycle(self, target: bytes) -> GatewayCycle:
        """The exchange that begins with this head."""
        version = self.parser.get_http_version()
        raw_path, _, query = target.partition(b"?")
        self.scope |= {
            "method": self.parser.get_method().decode("ascii"),
            "http_version": version,
            "path": urllib.parse.unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
        }
        self._is_upgrade = self.parser.should_upgrade()
        cycle = GatewayCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not self._is_upgrade,
            on_response=self.on_response_complete,
        )
        cycle.connection = self
        cycle.target = target
        cycle.wants_tunnel = self._is_upgrade and self._asks_for_a_websocket()
        extensions: dict[str, Any] = {DOWNSTREAM: cycle}
        self.scope["extensions"] = extensions
        return cycle

    def _asks_for_a_websocket(self) -> bool:
        if [value.lower() for name, value in self.headers if name == b"upgrade"] != [b"websocket"]:
            return False
        has_body = any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)
        if has_body or self.scope["method"] != "GET" or self.scope["http_version"] != "1.1":
            raise Malformed("A WebSocket begins with GET, HTTP/1.1 and no body")
        return True

    def _hold(self, data: bytes) -> None:
        # The last request that was read; others may still be answered before it.
        if isinstance(self.cycle, GatewayCycle) and self.cycle.wants_tunnel:
            self._early += data
            if len(self._early) > EARLY_BYTES:
                self.flow.pause_reading()

    def _refuse_head(self, msg: str) -> None:
        if self._field_bytes > MAX_HEAD_BYTES:
            super().send_400_response(msg)
            return
        malformed = self._malformed or Malformed("The request is not well-formed HTTP")
        self.transport.write(last_answer(partial(_refusal, malformed)))
        self.end(lingers=True)

    @staticmethod
    def _give_up(cycle: GatewayCycle | None) -> None:
        """Nobody waits for the answer, or nothing can be answered."""
        if cycle is None or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.on_lost is not None:
            cycle.on_lost()

    def _end_tunnel_in_time(self, tunnel: Tunnel) -> None:
        self._timers.append(self.loop.call_later(self.drain_seconds, tunnel.restart))
        self._timers.append(self.loop.call_later(self.drain_seconds + self.cut_seconds, tunnel.abort))


def _refusal(malformed: Malformed) -> Response:
    response = status_response(malformed.status, malformed.detail)
    if malformed.status == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    return response


@lru_cache(maxsize=1)
def _date(seconds: int) -> bytes:
    """The field's value, made once a second."""
    return formatdate(seconds, usegmt=True).encode()
