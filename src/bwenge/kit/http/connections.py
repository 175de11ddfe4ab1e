"""What uvicorn's connections leave open: a bound on what precedes a body, and an end for peers that fall silent."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from typing import Any, ClassVar, Final

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from bwenge.kit.errors import HeadTooLarge
from bwenge.kit.http.headers import DEFAULTS
from bwenge.kit.http.problems import problem_response
from bwenge.kit.ids import new_id
from bwenge.kit.telemetry import bind_request_id

MAX_HEAD_BYTES: Final = 64 * 1024

MAX_WAITING: Final = 16
"""Requests of one connection that wait for the answers before theirs."""


class TooManyWaiting(Exception):
    """Ends the reading of a connection, whose answers are still given."""


class BoundedHTTPProtocol(HttpToolsProtocol):
    """Refuses request lines, header fields and trailers above `MAX_HEAD_BYTES` with 431, and closes.

    The parser keeps a field whole until it ends, so bytes are counted as they arrive, too: those since the last piece
    of a body, or the last whole head or message, which the application's own limits take over.

    Behind `MAX_WAITING` requests that wait, no more is read: the last one's answer ends the connection.

    A peer that owes the rest of a request, or takes nothing of an answer, is cut off after `silence_seconds`: a
    connection is a descriptor, and there are only so many.
    """

    silence_seconds: ClassVar[float] = 60.0
    """For the whole of a head, between two pieces of a body, and between two pieces of an answer that are taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_deaf = False
        self._field_bytes = 0
        self._waiting_bytes = 0
        self._owes_since: float | None = self.loop.time()
        self._untaken_bytes = 0
        self._took_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._cut_if_silent()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def handle_websocket_upgrade(self) -> None:
        self._stop_watching()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._owes_since is None:
            self._owes_since = self.loop.time()
        self._waiting_bytes += len(data)
        super().data_received(data)
        if self._waiting_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._field_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._waiting_bytes = 0
        self._require_few_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._waiting_bytes = 0
        self._owes_since = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._waiting_bytes = 0
        self._owes_since = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser's failure is answered with; `_count` makes it fail."""
        if self._is_deaf:
            return
        if self._field_bytes > MAX_HEAD_BYTES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _count(self, *parts: bytes) -> None:
        self._field_bytes += sum(map(len, parts))
        if self._field_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def _require_few_waiting(self) -> None:
        if len(self.pipeline) >= MAX_WAITING:
            last, _ = self.pipeline[0]
            last.keep_alive = False
            self._listen_no_more()
            raise TooManyWaiting

    def _listen_no_more(self) -> None:
        """Drop what the peer still sends, which then owes nothing."""
        self._is_deaf = True
        self._owes_since = None

    def _refuse(self) -> None:
        # There is no cycle before the first request, whatever its type says.
        if getattr(self.cycle, "response_complete", True):
            self.transport.write(last_answer(partial(problem_response, HeadTooLarge())))
        self.transport.close()

    def _cut_if_silent(self) -> None:
        now = self.loop.time()
        if self._owes_since is not None and self.flow.read_paused:
            self._owes_since = now
        untaken = self.transport.get_write_buffer_size()
        if untaken == 0 or untaken != self._untaken_bytes:
            self._untaken_bytes, self._took_at = untaken, now
        if now - min(self._took_at, self._owes_since or now) > self.silence_seconds:
            self.transport.abort()
        else:
            self._watch = self.loop.call_later(self.silence_seconds / 4, self._cut_if_silent)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


def last_answer(refuse: Callable[[], Response]) -> bytes:
    """What a connection answers for itself before it closes, where no application was asked."""
    request_id = new_id().hex
    with bind_request_id(request_id):
        response = refuse()
    for name, value in DEFAULTS.items():
        response.headers.setdefault(name, value)
    fields = [
        *response.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"date", formatdate(usegmt=True).encode()),
        (b"connection", b"close"),
    ]
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"".join([STATUS_LINE[response.status_code], head, b"\r\n", bytes(response.body)])


class ImpatientWebSocketProtocol(WebSocketsSansIOProtocol):
    """Cuts the connection of a peer that does not take what is left for it.

    To close, uvicorn waits until all is sent, which a peer that stopped reading puts off for ever. Each ping is
    answered at once, whether the answers before it were taken or not.
    """

    max_untaken_bytes: ClassVar[int] = 1024 * 1024
    """More than the application may leave in the transport, which waits above 64 KB: the rest answers pings."""

    flush_seconds: ClassVar[float] = 10.0
    """How long after the application's end, or an unanswered ping, the peer may still read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cutting: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > self.max_untaken_bytes:
            self.transport.abort()

    async def send(self, message: Any) -> None:
        """As uvicorn sends, but for two things that it would log as errors of ours.

        A client that broke the WebSocket protocol was closed by uvicorn, and is gone for the application. A handshake
        that was answered with a refusal is complete.
        """
        await self.writable.wait()
        if self.close_sent and message["type"] in {"websocket.send", "websocket.close"}:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        super().on_task_complete(task)
        self._cut_later()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._cut_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._cutting is not None:
            self._cutting.cancel()

    def _cut_later(self) -> None:
        if self._cutting is None and not self.disconnected:
            self._cutting = self.loop.call_later(self.flush_seconds, self.transport.abort)
