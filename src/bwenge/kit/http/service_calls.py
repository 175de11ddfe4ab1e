"""Calls between the platform's own services: each is signed for what it says and for a minute, and for nobody else.

The key is derived from the master secret that all processes of a deployment hold; no user's token opens such a route,
and the gateway knows of none.
"""

import hashlib
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from bwenge.kit.errors import Unauthenticated
from bwenge.kit.http.dependencies import provided
from bwenge.kit.http.security import Access, declared
from bwenge.kit.signing import InvalidSignature, Signer

SCHEME: Final = "Bwenge-Service"
LIFETIME_SECONDS: Final = 60
"""Also how far the clocks of two machines may stand apart."""


class ServiceCalls:
    """Signs calls, and verifies them."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def authorization(self, *, caller: str, method: str, path: str, body: bytes) -> str:
        """The value of the header `Authorization` of one call."""
        message = _message(caller, method=method, path=path, body=body)
        signed = self._signer.sign(message, lifetime_seconds=LIFETIME_SECONDS)
        return f"{SCHEME} {caller}.{signed.expires}.{signed.signature}"

    def verify(self, authorization: str, *, caller: str, method: str, path: str, body: bytes) -> None:
        """Raise `Unauthenticated` unless that service made just this call, less than a minute ago."""
        scheme, _, proof = authorization.partition(" ")
        name, _, rest = proof.partition(".")
        expires, _, signature = rest.partition(".")
        # int() reads other digits, too, and a great many of them.
        if scheme != SCHEME or name != caller or not (expires.isascii() and expires.isdecimal() and len(expires) < 16):
            raise Unauthenticated
        message = _message(caller, method=method, path=path, body=body)
        try:
            self._signer.verify(message, expires=int(expires), signature=signature)
        except InvalidSignature:
            raise Unauthenticated from None


def service(caller: str) -> Any:
    """A route that one service of the platform alone may call."""

    async def check(request: Request, calls: Annotated[ServiceCalls, Depends(provided(ServiceCalls))]) -> None:
        calls.verify(
            request.headers.get("authorization", ""),
            caller=caller,
            method=request.method,
            path=request.scope["path"],
            body=await request.body(),
        )

    return declared(check, Access("service"))


def _message(caller: str, *, method: str, path: str, body: bytes) -> str:
    return "\n".join(("service call", caller, method, path, hashlib.sha256(body).hexdigest()))
