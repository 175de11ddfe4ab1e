"""Passwords by Argon2id, hashed off the event loop."""

import asyncio
import unicodedata
from dataclasses import dataclass
from typing import Final

from pwdlib import PasswordHash

MIN_PASSWORD_LENGTH: Final = 8
MAX_PASSWORD_LENGTH: Final = 128
"""In characters; the upper limit bounds what a client can make the server hash."""

DEFAULT_CONCURRENCY: Final = 2
"""Each computation holds 64 MiB and four lanes (RFC 9106, second recommended option), so few may run at once."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a password is right.

    Attributes:
        replacement: A hash with today's parameters, where the password is right and the stored one is older.
    """

    is_right: bool
    replacement: str | None = None


class Passwords:
    def __init__(self, hasher: PasswordHash, *, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        self._hasher = hasher
        self._free = asyncio.Semaphore(concurrency)
        self._nobodys_hash = hasher.hash("the hash that stands in for accounts that do not exist")

    async def hash(self, password: str) -> str:
        async with self._free:
            return await asyncio.to_thread(self._hasher.hash, _prepared(password))

    async def verify(self, password: str, password_hash: str | None) -> Verification:
        """Compare; without a hash, spend the same time and answer that the password is wrong."""
        async with self._free:
            is_right, replacement = await asyncio.to_thread(
                self._hasher.verify_and_update, _prepared(password), password_hash or self._nobodys_hash
            )
        return Verification(is_right, replacement) if password_hash else Verification(is_right=False)


def _prepared(password: str) -> str:
    """RFC 8265, OpaqueString: one composed form, so that `é` is the same from every keyboard; case and spaces stay."""
    return unicodedata.normalize("NFC", password)
