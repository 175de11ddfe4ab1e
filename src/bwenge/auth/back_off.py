"""Wrong passwords make the next attempt wait, for one account from one network.

An account that does not exist is treated alike, so that waiting tells nothing. Who guesses from many addresses makes
nobody wait but themselves; the account's owner, elsewhere, is let in at once.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import back_off_queries
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

    async def require_patience(self, session: AsyncSession, identifier: str, *, network: str) -> None:
        """Raise `RateLimited` where the last wrong password is too short a time ago."""
        found = await back_off_queries.get(session, self.account_hash(identifier), network)
        now = self._clock()
        if found is None or _is_forgotten(found, now):
            return
        wait = found.last_failed_at + _wait_after(found.failures) - now
        if wait > timedelta():
            raise RateLimited(retry_after=wait / timedelta(seconds=1), limit=FREE_FAILURES)

    async def note_failure(self, session: AsyncSession, identifier: str, *, network: str) -> None:
        """Count a wrong password, and clear away what is forgotten of everybody."""
        now = self._clock()
        await back_off_queries.delete_before(session, now - WINDOW)
        await back_off_queries.add_failure(
            session, self.account_hash(identifier), network, at=now, free=FREE_FAILURES, window=WINDOW
        )

    async def forget(self, session: AsyncSession, *identifiers: str, network: str | None = None) -> None:
        """The account's owner has shown themselves: from this network, or without one, from anywhere."""
        hashes = [self.account_hash(identifier) for identifier in identifiers]
        await back_off_queries.delete(session, hashes, network=network)

    def account_hash(self, identifier: str) -> bytes:
        """Equal for all spellings that name one account."""
        return hmac.digest(self._key, identifier.strip().lower().encode(), hashlib.sha256)


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
