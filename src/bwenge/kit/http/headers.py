"""What every answer tells browsers, unless its route says otherwise."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = "Content-Security-Policy"
UNDER_NO_POLICY: Final = frozenset({"application/pdf"})
"""Browsers' own viewers run under the document's policy, and stay blank under this one."""

API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Answers are data about somebody: no cache keeps them, no page frames them, nothing in them is run.
        "Cache-Control": "no-store",
        POLICY: API_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # Addresses may carry signatures.
        "Referrer-Policy": "no-referrer",
    }
)
HSTS: Final = "max-age=31536000"


class SecurityHeaders:
    """Adds `DEFAULTS` where an answer has none of its own, and HSTS where the request came by HTTPS.

    Args:
        own_policies: Content-Security-Policy by path, for pages that load something.
    """

    def __init__(self, app: ASGIApp, *, own_policies: Mapping[str, str]) -> None:
        self._app = app
        self._own_policies = own_policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                policy = self._own_policies.get(scope["path"])
                if policy is not None:
                    headers.setdefault(POLICY, policy)
                for name, value in DEFAULTS.items():
                    if not (name == POLICY and headers.get("Content-Type") in UNDER_NO_POLICY):
                        headers.setdefault(name, value)
                if message["status"] == HTTPStatus.NO_CONTENT:
                    del headers["Content-Type"]  # FastAPI names one all the same
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", HSTS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
