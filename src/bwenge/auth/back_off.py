"""Wrong passwords make the next attempt wait, for one account from one network.

An account is known by its id, and one that does not exist by what it was called, so that waiting tells nothing. Who
guesses from many addresses makes nobody wait but themselves; the account's owner, elsewhere, is let in at once.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import back_off_queries
from bwenge.auth.identifiers import fold_identifier
from bwenge.auth.models import LoginFailures
from bwenge.auth.settings import REFUSAL_SECONDS
from bwenge.auth.tokens import Clock, utc_now
from bwenge.kit.errors import RateLimited

FREE_FAILURES: Final = 5
WINDOW: Final = timedelta(minutes=15)
LONGEST_WAIT: Final = timedelta(seconds=60)


class BackOff:
    """Keeps its counts in the database, for every process and beyond a restart.

    Args:
        key: Under which accounts are hashed: the table names no account, and nobody can try names against it.
        refusal_seconds: No wrong password is answered sooner.
    """

    def __init__(self, key: bytes, *, refusal_seconds: float = REFUSAL_SECONDS, clock: Clock = utc_now) -> None:
        self.refusal_seconds = refusal_seconds
        self._key = key
        self._clock = clock

    async def take_attempt(self, session: AsyncSession, account: str, *, network: str) -> None:
        """Count a wrong password before it is looked at: of attempts at one moment, each sees those before it.

        `forget` takes back what turns out to be right. What is forgotten of everybody is cleared away.

        Raises:
            RateLimited: The last wrong password is too short a time ago; nothing was counted.
        """
        now = self._clock()
        await back_off_queries.delete_before(session, now - WINDOW)
        count = await back_off_queries.lock(session, self._hash(account), network, at=now)
        if _is_forgotten(count, now):
            count.failures, count.first_failed_at = 0, now
        wait = count.last_failed_at + _wait_after(count.failures) - now
        if wait > timedelta():
            raise RateLimited(retry_after=wait / timedelta(seconds=1), limit=FREE_FAILURES)
        count.failures += 1
        count.last_failed_at = now

    async def forget(self, session: AsyncSession, account: str, *, network: str | None = None) -> None:
        """The account's owner has shown themselves: from this network, or without one, from anywhere."""
        await back_off_queries.delete(session, self._hash(account), network=network)

    def mark(self, identifier: str) -> str:
        """What stands for an account in a count without naming it, the same for all spellings of its name."""
        return self._hash(fold_identifier(identifier)).hex()

    def _hash(self, account: str) -> bytes:
        return hmac.digest(self._key, account.encode(), hashlib.sha256)


def _is_forgotten(found: LoginFailures, now: datetime) -> bool:
    """A few failures count from the first one on; what made somebody wait is remembered from the last one on."""
    since = found.last_failed_at if found.failures >= FREE_FAILURES else found.first_failed_at
    return now - since > WINDOW


def _wait_after(failures: int) -> timedelta:
    """None before the fifth failure, then 1, 2, 4 … 60 seconds."""
    if failures < FREE_FAILURES:
        return timedelta()
    # The exponent is bounded, for the count is not.
    return min(timedelta(seconds=2 ** min(failures - FREE_FAILURES, 6)), LONGEST_WAIT)
