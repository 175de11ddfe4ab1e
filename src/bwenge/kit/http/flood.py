"""A guard against floods: how often one network may ask at all, before anything else is looked at."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from bwenge.kit.errors import RateLimited
from bwenge.kit.http.problems import problem_response
from bwenge.kit.http.rates import client_network
from bwenge.kit.ratelimit import REFUSED

MOST_NETWORKS: Final = 100_000
"""Beyond, the one seen longest ago is forgotten: it has its whole burst again."""


class TokenBuckets:
    """A bucket for each key: it holds `burst` and is filled at `per_second`.

    A bucket is one number, the time from which it is full, so that a hit costs the same however many there are.
    """

    def __init__(
        self,
        *,
        per_second: float,
        burst: int,
        most: int = MOST_NETWORKS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / per_second
        self._depth = burst * self._interval
        self._most = most
        self._clock = clock
        self._full_from: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_from)

    def take(self, key: str) -> float:
        """Take one; 0, or the seconds until there is one."""
        now = self._clock()
        full_from = max(self._full_from.get(key, now), now) + self._interval
        missing = full_from - now - self._depth
        # Rounding of sums must not refuse the last one of a burst.
        if missing > self._interval / 1000:
            self._full_from.move_to_end(key)
            return missing
        self._full_from[key] = full_from
        self._full_from.move_to_end(key)
        if len(self._full_from) > self._most:
            self._full_from.popitem(last=False)
        return 0.0


class FloodGuard:
    """Refuses with 429 what a client's network asks above `per_minute`, once its `burst` is used up.

    It stands inside of `RequestContext`, so that refusals have an id, and around everything else.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int, burst: int) -> None:
        self._app = app
        self._per_minute = per_minute
        self._buckets = TokenBuckets(per_second=per_minute / 60, burst=burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            wait = self._buckets.take(client_network(HTTPConnection(scope)))
            if wait:
                REFUSED.labels("flood").inc()
                refusal = RateLimited(retry_after=max(1.0, wait), limit=self._per_minute)
                await problem_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)
