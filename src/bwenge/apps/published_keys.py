"""What the gateway can tell of an access token by itself: whether a key that auth publishes signed it, and its times.

The gateway holds no secret. It learns the public keys from auth (RFC 7517) and asks for them again and again; what it
cannot judge it lets pass, for the service checks every token once more.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpx2
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from bwenge.auth.tokens import AccessTokenVerifier
from bwenge.kit.errors import Unauthenticated

_log = structlog.get_logger(__name__)

PATH: Final = "/.well-known/jwks.json"
REFRESH_SECONDS: Final = 30.0
"""The key that will sign next is published long before it does."""
RETRY_SECONDS: Final = 1.0


class PublishedKeys:
    """Args: auth_url: where the service that signs is reached."""

    def __init__(self, auth_url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=auth_url, timeout=5.0, trust_env=False)
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._verifier = AccessTokenVerifier(self._keys)
        self._following: asyncio.Task[None] | None = None

    def check(self, token: str) -> None:
        """Raise `Unauthenticated` where no service would take the token."""
        try:
            is_ours_to_judge = jwt.get_unverified_header(token)["kid"] in self._keys
        # As the verifier: a header of nested arrays, a key id of another JSON type.
        except (jwt.PyJWTError, ValueError, LookupError, TypeError, RecursionError):
            raise Unauthenticated from None
        if is_ours_to_judge:
            self._verifier.verify(token)

    def start(self) -> None:
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self._http.aclose()

    async def _follow(self) -> None:
        while True:
            try:
                answer = await self._http.get(PATH)
                answer.raise_for_status()
                self._take(answer.json())
            except (httpx2.HTTPError, ValueError, KeyError, TypeError, jwt.InvalidKeyError) as error:
                _log.warning("published_keys_not_read", reason=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(REFRESH_SECONDS)

    def _take(self, published: Mapping[str, Any]) -> None:
        keys = {key["kid"]: OKPAlgorithm.from_jwk(key) for key in published["keys"]}
        self._keys.clear()
        self._keys.update({name: key for name, key in keys.items() if isinstance(key, Ed25519PublicKey)})
