"""`persona.contract.Replies` over HTTP: the replies of the service that has the personas, for the one that has chat.

To ask changes nothing there, so until the first event is here a call may be repeated: a question waits for a service
that restarts, and is told of one that stays away.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import httpx2
import structlog

from bwenge.kit.http.service_calls import ServiceCalls
from bwenge.kit.telemetry import current_request_id
from bwenge.persona.contract import Reply, ReplyEvent, ReplyRequest
from bwenge.persona.errors import ModelUnavailable
from bwenge.persona.reply_lines import CALLER, PATH, decode_line, encode_request

_log = structlog.get_logger(__name__)

PATIENCE_SECONDS: Final = 10.0
"""For how long a service that cannot be reached is asked again."""
_PAUSE_SECONDS: Final = 0.25
_RETRY_AFTER: Final = 5
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_TIMEOUTS: Final = httpx2.Timeout(connect=2.0, write=10.0, read=150.0, pool=10.0)
"""What lies between two events is the model's time, which the service bounds itself."""
_LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30.0)


class _Unreached(Exception):
    """No event has come; the same may be asked again."""


class RemoteReplies:
    """Args: base_url: the service's, such as `http://127.0.0.1:8003`."""

    def __init__(self, base_url: str, calls: ServiceCalls, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._calls = calls
        self._patience_seconds = patience_seconds
        self._http = httpx2.AsyncClient(base_url=base_url, timeout=_TIMEOUTS, limits=_LIMITS, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def stream(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        """As the contract says.

        Raises:
            PersonaNotFound
            ModelUnavailable: The service cannot be reached, or broke off.
        """
        until = time.monotonic() + self._patience_seconds
        while True:
            try:
                async with aclosing(self._ask(request)) as events:
                    async for event in events:
                        yield event
            except _Unreached as error:
                if time.monotonic() > until:
                    _log.warning("replies_unreachable", reason=str(error))
                    raise ModelUnavailable(retry_after=_RETRY_AFTER) from error
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _ask(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        body = encode_request(request)
        headers = {
            "Authorization": self._calls.authorization(caller=CALLER, method="POST", path=PATH, body=body),
            "Content-Type": "application/json",
            "X-Request-Id": current_request_id(),
        }
        has_begun = False
        try:
            async with self._http.stream("POST", PATH, content=body, headers=headers) as response:
                if response.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
                    raise _Unreached("status 503")
                if response.status_code != httpx2.codes.OK:
                    # A secret or a clock that is not the same on both sides: to ask again does not mend it.
                    _log.error("replies_refused", status=response.status_code)
                    raise ModelUnavailable(retry_after=_RETRY_AFTER)
                async with aclosing(_lines(response)) as lines:
                    async for line in lines:
                        event = decode_line(line)
                        has_begun = True
                        yield event
                        if isinstance(event, Reply):
                            return
        except (httpx2.TransportError, ValueError, KeyError) as error:
            if not has_begun:
                raise _Unreached(type(error).__name__) from error
            _log.warning("reply_broken_off", reason=type(error).__name__)
        raise ModelUnavailable(retry_after=_RETRY_AFTER)


async def _lines(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """Split at line feeds alone: texts hold separators of other kinds. Raises ValueError for a line without end."""
    rest = b""
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line
            if len(rest) > _MAX_LINE_BYTES:
                raise ValueError("a line without end")
