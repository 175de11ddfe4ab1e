"""Rate limits: exact moving windows, in this process's memory or in Redis where several processes share them.

While Redis is away each process limits by its own memory, and a metric says so.
"""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.memory import Entry
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from prometheus_client import Counter
from redis.asyncio import ConnectionPool

from bwenge.kit.errors import RateLimited

_log = structlog.get_logger(__name__)

NO_OVERRIDES: Final[Mapping[str, str]] = MappingProxyType({})
_REDIS_AWAY_SECONDS: Final = 5.0
"""For how long Redis is not asked again after it failed, so that its time-outs are not paid by each request."""

REDIS_SECONDS: Final = 1.0
"""How long a request waits for Redis before this process counts by itself."""

REFUSED: Final = Counter("bwenge_rate_limited_total", "Requests that a rate limit refused", ["limit"])
LOCAL: Final = Counter("bwenge_rate_limits_local_total", "Hits counted in this process alone, while Redis was away")


class BoundedMemory(MemoryStorage):
    """Moving windows in memory, forgotten in passing.

    The library's own storage looks through all windows with a thread each, as soon as one is hit; anybody can open
    windows without end, by naming accounts.
    """

    MOST_WINDOWS: Final = 100_000
    """42 MB where each was hit once, 100 MB where five times; beyond, those hit longest ago are forgotten."""

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = time.time()
        self._forget(now)
        hits = self.events.pop(key, [])
        oldest = limit - amount
        is_full = oldest < 0 or (oldest < len(hits) and hits[oldest].atime >= now - expiry)
        # Put back at the end: in front stands what was hit longest ago.
        self.events[key] = hits if is_full else [*(Entry(expiry) for _ in range(amount)), *hits[:oldest]]
        return not is_full

    def _forget(self, now: float) -> None:
        """Two windows at most for each one that may be opened, so that none is left and nobody waits for it."""
        for _ in range(2):
            key = next(iter(self.events), None)
            if key is None or (self.events[key] and self.events[key][0].expiry > now):
                break
            del self.events[key]
        while len(self.events) >= self.MOST_WINDOWS:
            del self.events[next(iter(self.events))]


class RateLimiter:
    """Counts hits by the name of a limit and by whose they are.

    Args:
        redis_url: Where the windows are shared; None keeps them in memory.
        overrides: Rates in place of the caller's own, by a limit's name in capitals with underscores:
            `{"AUTH_LOGIN": "20/minute"}`.
        is_on: Off, nothing is counted or refused.
    """

    def __init__(
        self, *, redis_url: str | None = None, overrides: Mapping[str, str] = NO_OVERRIDES, is_on: bool = True
    ) -> None:
        self._local = MovingWindowRateLimiter(BoundedMemory())
        self._redis: ConnectionPool | None = None
        self._shared: MovingWindowRateLimiter | None = None
        if redis_url is not None:
            self._redis = ConnectionPool.from_url(
                redis_url, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
            )
            self._shared = MovingWindowRateLimiter(
                RedisStorage(
                    f"async+{redis_url}",
                    wrap_exceptions=True,
                    implementation="redispy",
                    connection_pool=self._redis,  # type: ignore[arg-type]  # limits passes it on, and types it not
                )
            )
        self._overrides = overrides
        self._is_on = is_on
        self._ask_redis_from = 0.0

    def rate_of(self, name: str, rate: str) -> RateLimitItem:
        """The rate that holds for a limit. Raises ValueError for one that is not of the form `10/minute`."""
        return parse(self._overrides.get(name.upper().replace(".", "_"), rate))

    async def hit(self, name: str, rate: str, *whose: str) -> None:
        """Count one hit.

        Raises:
            RateLimited: The window is full; the hit is not counted.
        """
        if not self._is_on:
            return
        limit = self.rate_of(name, rate)
        window = self._window()
        try:
            is_admitted, reset_at = await _count(window, limit, name, *whose)
        except StorageError as error:
            _log.warning("rate_limits_local", reason=str(error))
            self._ask_redis_from = time.monotonic() + _REDIS_AWAY_SECONDS
            LOCAL.inc()
            is_admitted, reset_at = await _count(self._local, limit, name, *whose)
        if not is_admitted:
            REFUSED.labels(name).inc()
            raise RateLimited(retry_after=max(1.0, reset_at - time.time()), limit=limit.amount)

    async def close(self) -> None:
        """Give the connections to Redis back."""
        if self._redis is not None:
            await self._redis.aclose()

    def _window(self) -> MovingWindowRateLimiter:
        if self._shared is None:
            return self._local
        if time.monotonic() < self._ask_redis_from:
            LOCAL.inc()
            return self._local
        return self._shared


async def _count(window: MovingWindowRateLimiter, limit: RateLimitItem, name: str, *whose: str) -> tuple[bool, float]:
    """Whether the hit was admitted, and, where it was not, when the window has room again (Unix time)."""
    if await window.hit(limit, name, *whose):
        return True, 0.0
    return False, (await window.get_window_stats(limit, name, *whose)).reset_time
