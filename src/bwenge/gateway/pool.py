"""Connections to one service, kept for the next request."""

import asyncio
from collections import deque
from typing import Final

from bwenge.gateway.errors import Broken, ServiceTimedOut, ServiceUnavailable
from bwenge.gateway.settings import GatewaySettings
from bwenge.gateway.upstream import UpstreamConnection

SWEEP_SECONDS: Final = 5.0


class UpstreamPool:
    """Hands out the connection that was used last, so that those which are too many grow old and are closed.

    Args:
        host: Where the service listens, by name or address.
    """

    def __init__(self, host: str, port: int, settings: GatewaySettings) -> None:
        self.host = host
        self.port = port
        self._settings = settings
        self._idle: list[UpstreamConnection] = []
        self._counted: set[UpstreamConnection] = set()
        self._connecting = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def open_connections(self) -> int:
        return len(self._counted) + self._connecting

    async def acquire(self) -> UpstreamConnection:
        """A connection nobody uses, which `release` takes back.

        Raises:
            OSError: The service takes none.
            ServiceTimedOut: It did not within `connect_seconds`.
            ServiceUnavailable: All are in use, and none came back in time.
        """
        deadline: float | None = None
        while True:
            kept = self._kept()
            if kept is not None:
                return kept
            if self.open_connections < self._settings.max_connections:
                return await self._connect()
            now = asyncio.get_running_loop().time()
            deadline = deadline or now + self._settings.pool_wait_seconds
            await self._freed(deadline - now)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep it if the next request may use it, and end it otherwise."""
        if self._is_closed or not connection.is_reusable:
            connection.abort(Broken())
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        self._wake()
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._close_old)

    def let_go(self, connection: UpstreamConnection) -> None:
        """It became a tunnel, and is not counted any more."""
        self._counted.discard(connection)
        self._wake()

    def close(self) -> None:
        """End the connections that are not in use, and later those that are."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in self._idle:
            connection.abort(Broken())
        self._idle.clear()

    def _kept(self) -> UpstreamConnection | None:
        oldest = asyncio.get_running_loop().time() - self._settings.pool_idle_seconds
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_since > oldest:
                return connection
            connection.abort(Broken())
        return None

    async def _connect(self) -> UpstreamConnection:
        self._connecting += 1
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: UpstreamConnection(on_lost=self._lost), self.host, self.port
                )
        except TimeoutError as error:
            raise ServiceTimedOut from error
        else:
            self._counted.add(connection)
            return connection
        finally:
            self._connecting -= 1
            self._wake()

    async def _freed(self, seconds: float) -> None:
        freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(freed)
        try:
            async with asyncio.timeout(seconds):
                await freed
        except TimeoutError as error:
            raise ServiceUnavailable(retry_after=1) from error
        finally:
            if freed in self._waiting:
                self._waiting.remove(freed)
            elif freed.cancelled():
                self._wake()

    def _wake(self) -> None:
        while self._waiting:
            freed = self._waiting.popleft()
            if not freed.done():
                freed.set_result(None)
                return

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self.let_go(connection)

    def _close_old(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._settings.pool_idle_seconds
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).abort(Broken())
        if self._idle:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._close_old)
