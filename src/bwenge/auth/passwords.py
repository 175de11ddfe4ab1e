"""Passwords by Argon2id, hashed off the event loop. Hashes by bcrypt, from other systems, are verified and replaced."""

import asyncio
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from bwenge.auth.settings import PASSWORD_CONCURRENCY

MIN_PASSWORD_LENGTH: Final = 8
MAX_PASSWORD_LENGTH: Final = 128
"""In characters; the upper limit bounds what a client can make the server hash."""


T = TypeVar("T")

_CHEAP: Final = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)

BCRYPT_BYTES: Final = 72
_NICENESS: Final = 10


class CuttingBcryptHasher(BcryptHasher):
    """Reads as much of a password as bcrypt always did, where the library refuses a longer one."""

    def verify(self, password: str | bytes, hash: str | bytes) -> bool:  # noqa: A002  # the parent's name
        given = password.encode() if isinstance(password, str) else password
        return super().verify(given[:BCRYPT_BYTES], hash)


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a password is right.

    Attributes:
        replacement: A hash with today's parameters, where the password is right and the stored one is older.
    """

    is_right: bool
    replacement: str | None = None


class Passwords:
    """Args: concurrency: computations at once; the others wait for their turn."""

    def __init__(self, hasher: PasswordHash, *, concurrency: int = PASSWORD_CONCURRENCY) -> None:
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="passwords", initializer=_stand_back)
        self._nobodys_hash = hasher.hash("the hash that stands in for accounts that do not exist")

    async def hash(self, password: str) -> str:
        return await self._beside(partial(self._hasher.hash, _prepared(password)))

    async def hash_generated(self, passwords: Sequence[str]) -> list[str]:
        """Of passwords that the platform made, of 80 random bits and more: with nothing to guess, a cheap hash will do.

        The first login replaces it by one with the parameters of all others.
        """
        return await self._beside(lambda: [_CHEAP.hash(_prepared(password)) for password in passwords])

    async def verify(self, password: str, password_hash: str | None) -> Verification:
        """Compare; without a hash, spend the same time and answer that the password is wrong."""
        stored = password_hash or self._nobodys_hash
        verification = await self._beside(partial(self._verify, _prepared(password), password_hash=stored))
        return verification if password_hash else Verification(is_right=False)

    async def _beside(self, compute: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, compute)

    def _verify(self, password: str, *, password_hash: str) -> Verification:
        try:
            return Verification(*self._hasher.verify_and_update(password, password_hash))
        except UnknownHashError:
            return Verification(is_right=False)


def _stand_back() -> None:
    """Let this thread, and the lanes of its computations, take the processor from nobody who wants it.

    Linux gives each thread a priority of its own, and new threads their maker's. Elsewhere nothing changes.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _prepared(password: str) -> str:
    """RFC 8265, OpaqueString: one composed form, so that `é` is the same from every keyboard; case and spaces stay."""
    return unicodedata.normalize("NFC", password)
