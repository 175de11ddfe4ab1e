"""Signed addresses: whoever holds one may open what it names until it expires."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from bwenge.kit.errors import Forbidden

PATH_LIFETIME_SECONDS: Final = 3600


class InvalidSignature(Forbidden):
    code = "invalid_signature"
    title = "This address is wrong or has expired"


@dataclass(frozen=True, slots=True)
class Signed:
    """`expires` in seconds since 1970; `signature` in base64url without padding."""

    expires: int
    signature: str


class Signer:
    """HMAC-SHA256 over a message and its expiry. Messages of different kinds begin with different words."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def sign(self, message: str, *, lifetime_seconds: int) -> Signed:
        expires = int(self._clock()) + lifetime_seconds
        return Signed(expires, self._signature(message, expires))

    def verify(self, message: str, *, expires: int, signature: str) -> None:
        """Raise `InvalidSignature` unless this key signed the message and its time has not passed."""
        expected = self._signature(message, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()) or expires < self._clock():
            raise InvalidSignature

    def _signature(self, message: str, expires: int) -> str:
        digest = hmac.new(self._key, f"{message}\n{expires}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class SignedPaths:
    """Paths of this platform that open without a login for an hour."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def address_of(self, path: str) -> str:
        signed = self._signer.sign(_message(path), lifetime_seconds=PATH_LIFETIME_SECONDS)
        return f"{path}?{urlencode({'expires': signed.expires, 'signature': signed.signature})}"

    def verify(self, path: str, *, expires: int, signature: str) -> None:
        """Raise `InvalidSignature` unless the address is one that was given out, and not too long ago."""
        self._signer.verify(_message(path), expires=expires, signature=signature)


def _message(path: str) -> str:
    return f"path\n{path}"
