"""Which names the platform answers to."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bwenge.kit.http.problems import status_response

UNDER_ANY_NAME: Final = frozenset({"/health", "/health/ready"})


class TrustedHosts:
    """Refuse requests for other hosts with 400, before any link could be made from the name that they give.

    Whether the process is alive and ready is told under any name: who asks that knows it by its address alone.

    Args:
        hosts: Names without port; `*.school.example` is every name below that one, and `*` every name.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] in {"http", "websocket"} and scope["path"] not in UNDER_ANY_NAME
        if is_asked and not self._is_trusted(Headers(scope=scope).get("host", "")):
            await status_response(HTTPStatus.BAD_REQUEST, "This host is not served here")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_trusted(self, given: str) -> bool:
        address, bracket, _ = given.partition("]")
        name = (address + bracket if bracket else given.partition(":")[0]).lower()
        parents = ("*" + name[dot:] for dot, character in enumerate(name) if character == ".")
        return "*" in self._hosts or name in self._hosts or any(parent in self._hosts for parent in parents)
