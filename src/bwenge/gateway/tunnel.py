"""Bytes of a WebSocket, both ways, as they come: who speaks WebSocket are the client and the service."""

import asyncio
from collections.abc import Callable
from typing import Final

from bwenge.gateway.frames import RESTARTS, FrameTrack

FLUSH_SECONDS: Final = 10.0
"""How long one side may take what the other left before it ended."""

RESTART_SECONDS: Final = 1.0
"""How long a client that was told of a restart may take to answer."""


class Tunnel:
    """Joins two transports. Whoever is slow to take makes the other wait; whoever ends, ends the other.

    A client that takes nothing for `silence_seconds`, while the service waits for it, ends both: nothing is read from
    the service then, and nobody would see that it gave the client up.

    Pings, close codes and silence are the service's business. The two protocols report what happens to theirs.
    """

    def __init__(
        self,
        client: asyncio.Transport,
        service: asyncio.Transport,
        *,
        on_end: Callable[[], None],
        silence_seconds: float = 60.0,
    ) -> None:
        self._client = client
        self._service = service
        self._on_end: Callable[[], None] | None = on_end
        self._silence_seconds = silence_seconds
        self._frames = FrameTrack()
        self._untaken_bytes = 0
        self._took_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._has_client_finished = False
        self._has_service_finished = False

    def from_client(self, data: bytes) -> None:
        _write(self._service, data)

    def from_service(self, data: bytes) -> None:
        if self._has_service_finished:
            return
        self._frames.feed(data)
        _write(self._client, data)

    def client_is_full(self) -> None:
        _pause(self._service)
        self._untaken_bytes = self._client.get_write_buffer_size()
        self._took_at = asyncio.get_running_loop().time()
        self._watch_later()

    def client_has_room(self) -> None:
        self._stop_watching()
        _resume(self._service)

    def service_is_full(self) -> None:
        _pause(self._client)

    def service_has_room(self) -> None:
        _resume(self._client)

    def client_finished(self) -> None:
        """It will send no more, and may still read; where the service has finished, too, all is said."""
        self._has_client_finished = True
        if self._has_service_finished:
            self.close()
        else:
            _finish(self._service)

    def service_finished(self) -> None:
        """As `client_finished`; a client that then stays is not waited for."""
        self._has_service_finished = True
        if self._has_client_finished:
            self.close()
        else:
            _finish(self._client)
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.close)

    def client_lost(self, error: Exception | None) -> None:
        self._ended(self._service, error)

    def service_lost(self, error: Exception | None) -> None:
        self._ended(self._client, error)

    def restart(self) -> None:
        """Ask the client to connect again, where no frame would be cut by that, and end both sides."""
        if self._has_service_finished or not self._frames.may_close:
            self.close()
            return
        _write(self._client, RESTARTS)
        self._has_service_finished = True
        _finish(self._client)
        asyncio.get_running_loop().call_later(RESTART_SECONDS, self.close)

    def close(self) -> None:
        """End both sides once they have taken what is left."""
        self._ended(self._client, None)
        self._ended(self._service, None)

    def abort(self) -> None:
        """End both sides at once."""
        self._client.abort()
        self._service.abort()

    def _cut_if_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        untaken = self._client.get_write_buffer_size()
        if untaken < self._untaken_bytes:
            self._took_at = now
        self._untaken_bytes = untaken
        if now - self._took_at > self._silence_seconds:
            self.abort()
        else:
            self._watch_later()

    def _watch_later(self) -> None:
        self._stop_watching()
        self._watch = asyncio.get_running_loop().call_later(self._silence_seconds / 4, self._cut_if_silent)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def _ended(self, other: asyncio.Transport, error: Exception | None) -> None:
        if error is not None:
            other.abort()
        elif not other.is_closing():
            other.close()
            if other.get_write_buffer_size():
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, other.abort)
        self._stop_watching()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


def _write(transport: asyncio.Transport, data: bytes) -> None:
    if data and not transport.is_closing():
        transport.write(data)


def _pause(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.pause_reading()


def _resume(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.resume_reading()


def _finish(transport: asyncio.Transport) -> None:
    if not transport.is_closing() and transport.can_write_eof():
        transport.write_eof()
