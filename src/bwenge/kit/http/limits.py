"""A bound on request bodies, so that no client makes a service hold more than it needs."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bwenge.kit.errors import TooLarge
from bwenge.kit.http.problems import problem_response, status_of

MAX_BODY_BYTES: Final = 1024 * 1024


class BodyTooLarge(TooLarge):
    title = "A request body may have at most 1 MB"


class BodyLimit:
    """Refuse bodies above the limit with 413, by their declared length or as they grow.

    Paths in `streamed` read their bodies piece by piece and keep their own limit.
    """

    def __init__(self, app: ASGIApp, *, streamed: Collection[str], max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._streamed = frozenset(streamed)
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._streamed:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await problem_response(BodyTooLarge())(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # FastAPI answers 400 for whatever else is raised while it reads a body.
                raise HTTPException(status_of(BodyTooLarge()), BodyTooLarge.title)
            return message

        await self._app(scope, bounded, send)
