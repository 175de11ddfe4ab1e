"""One connection to a service, one exchange at a time."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import httptools

from bwenge.gateway.errors import Broken, ServiceTimedOut
from bwenge.gateway.fields import Fields, tokens, value_of
from bwenge.gateway.tunnel import Tunnel

HELD_BYTES: Final = 256 * 1024
"""Of an answer whose client does not take it; above, the service is not read from."""

CLOCK_SECONDS: Final = 0.001
"""By which an event loop's timers may be early."""

MAX_HEAD_BYTES: Final = 64 * 1024
BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED, HTTPStatus.SWITCHING_PROTOCOLS})


@dataclass(slots=True)
class Answer:
    """What has arrived of an answer, and what is known of its end.

    Attributes:
        fields: Names in small letters.
        trailers: As `fields`, after the body.
    """

    is_to_head: bool = False
    status: int = 0
    fields: Fields = field(default_factory=list)
    trailers: Fields = field(default_factory=list)
    head_bytes: int = 0
    pieces: deque[bytes] = field(default_factory=deque)
    held_bytes: int = 0
    keeps_alive: bool = False
    ends_with_connection: bool = False
    is_complete: bool = False


class UpstreamConnection(asyncio.Protocol):
    """Writes a request and reads its answer, with flow control both ways.

    A failure (of the connection, of its time, or one that `abort` was given) is raised by whatever waits, after all
    that arrived before it was read.

    Args:
        on_lost: Called once, when the connection is no more.
    """

    transport: asyncio.Transport

    def __init__(self, *, on_lost: Callable[["UpstreamConnection"], None]) -> None:
        self.answer = Answer()
        self.idle_since = 0.0
        self.is_switched = False
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._parser: httptools.HttpResponseParser | None = None
        self._failure: Exception | None = None
        self._is_request_sent = False
        self._is_interim = False
        self._is_stray = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._active_at = 0.0
        self._after_switch = b""
        self._tunnel: Tunnel | None = None

    @property
    def is_request_sent(self) -> bool:
        """Whether the service was given all of the request, and owes its answer."""
        return self._is_request_sent

    @property
    def is_reusable(self) -> bool:
        """Whether both sides said all, and agree that the next exchange begins here."""
        is_over = self.answer.is_complete and self.answer.keeps_alive and self._is_request_sent
        is_over = is_over and self.transport.get_write_buffer_size() == 0
        return is_over and not (self._is_stray or self.is_switched or self._failure or self.transport.is_closing())

    def begin(self, head: bytes, *, is_to_head: bool, has_body: bool) -> None:
        """Write a request, or only its head: `write` and `finish_request` follow where more of it `has_body`."""
        self.answer = Answer(is_to_head=is_to_head)
        self._parser = httptools.HttpResponseParser(self)
        self._is_request_sent = not has_body
        self.transport.write(head)

    async def write(self, data: bytes, *, seconds: float) -> None:
        """Returns when there is room for more; the connection is aborted where there is none within `seconds`."""
        if data and not self.transport.is_closing():
            self._active_at = self._loop.time()
            self.transport.write(data)
        if self._is_writing_paused:
            self._room = self._loop.create_future()
            await self._wait(self._room, seconds)

    def finish_request(self) -> None:
        self._is_request_sent = True

    async def head(self, *, seconds: float) -> Answer:
        """The answer, once its head is there.

        Raises:
            Broken, ServiceTimedOut, or what `abort` was given.
        """
        while not self.answer.status:
            await self._arrives(seconds)
        return self.answer

    async def piece(self, *, seconds: float) -> tuple[bytes, bool]:
        """All of the body that has arrived since the last piece, and whether that was its end.

        Raises:
            As `head`.
        """
        answer = self.answer
        while not (answer.pieces or answer.is_complete):
            await self._arrives(seconds)
        body = answer.pieces[0] if len(answer.pieces) == 1 else b"".join(answer.pieces)
        answer.pieces.clear()
        answer.held_bytes = 0
        if self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = False
            self.transport.resume_reading()
        return body, answer.is_complete

    def become(self, tunnel: Tunnel) -> None:
        """Pass all bytes on from now, those first that came with the answer 101."""
        self._tunnel = tunnel
        if self.transport.is_closing():
            tunnel.from_service(self._after_switch)
            tunnel.service_lost(None)
        else:
            self.transport.resume_reading()
            tunnel.from_service(self._after_switch)
        self._after_switch = b""

    def abort(self, failure: Exception) -> None:
        """End the connection so that the service notices at once."""
        self._failure = self._failure or failure
        self.transport.abort()
        self._wake()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as TCP's are
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer.ends_with_connection and exc is None and self._failure is None:
            self.answer.is_complete = True
        self._failure = self._failure or Broken()
        self._wake()
        if self._tunnel is not None:
            self._tunnel.service_lost(exc)
        self._on_lost(self)

    def eof_received(self) -> bool:
        """A service that is done with a tunnel may still read; one that is done with HTTP has no more to say."""
        if self._tunnel is None:
            return False
        self._tunnel.service_finished()
        return True

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.from_service(data)
        elif self.is_switched:
            self._after_switch += data
        elif self._parser is None:
            self.abort(Broken())  # it speaks without having been asked
        else:
            self._parse(self._parser, data)

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        if self._tunnel is not None:
            self._tunnel.service_is_full()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        if self._tunnel is not None:
            self._tunnel.service_has_room()
        self._let_go(self._room)

    def on_message_begin(self) -> None:
        self._is_stray = self._is_stray or self.answer.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self.answer.trailers if self.answer.status else self.answer.fields
        fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._parser is None or self._is_stray:
            return
        answer = self.answer
        status = self._parser.get_status_code()
        self._is_interim = status < HTTPStatus.OK and status != HTTPStatus.SWITCHING_PROTOCOLS
        if self._is_interim:
            answer.fields.clear()
            return
        connection = value_of(answer.fields, b"connection") or b""
        answer.keeps_alive = self._parser.get_http_version() == "1.1" and b"close" not in tokens(connection)
        is_framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in answer.fields)
        answer.is_complete = answer.is_to_head or status in BODILESS
        answer.ends_with_connection = not (is_framed or answer.is_complete)
        answer.status = status
        self._let_go(self._arrival)

    def on_body(self, body: bytes) -> None:
        answer = self.answer
        if answer.is_complete:
            self._is_stray = True
            return
        answer.pieces.append(body)
        answer.held_bytes += len(body)
        if answer.held_bytes > HELD_BYTES and not self._is_reading_paused:
            self._is_reading_paused = True
            self.transport.pause_reading()
        self._let_go(self._arrival)

    def on_message_complete(self) -> None:
        if not self._is_interim:
            self.answer.is_complete = True
            self._let_go(self._arrival)

    def _parse(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        self.answer.head_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.is_switched = True
            self._after_switch = data[upgrade.args[0] :]
            self.transport.pause_reading()
        except httptools.HttpParserError:
            # Whatever follows a whole answer is no answer to anything.
            self._is_stray = True
            if not self.answer.is_complete:
                self.abort(Broken())
        if not self.answer.status and self.answer.head_bytes > MAX_HEAD_BYTES:
            self.abort(Broken())

    async def _arrives(self, seconds: float) -> None:
        if self._failure is not None:
            raise self._failure
        self._arrival = self._loop.create_future()
        await self._wait(self._arrival, seconds)

    async def _wait(self, awaited: "asyncio.Future[None]", seconds: float) -> None:
        if self._failure is not None:
            return
        self._active_at = self._loop.time()
        timer: asyncio.TimerHandle

        def require_activity() -> None:
            """An answer that is waited for is not late while its request is still being sent."""
            nonlocal timer
            left = self._active_at + seconds - self._loop.time()
            if awaited.done():
                return
            if left > CLOCK_SECONDS:
                timer = self._loop.call_later(left, require_activity)
            else:
                self.abort(ServiceTimedOut())

        timer = self._loop.call_later(seconds, require_activity)
        try:
            await awaited
        finally:
            timer.cancel()

    def _wake(self) -> None:
        self._let_go(self._arrival)
        self._let_go(self._room)

    @staticmethod
    def _let_go(waiting: "asyncio.Future[None] | None") -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
