"""Removing what lets nobody in any more: sessions of those who never came back, links and codes that nobody used."""

from typing import Final

from bwenge.auth.models import PasswordResetCode, PasswordResetLink, RefreshToken
from bwenge.auth.tokens import Clock, utc_now
from bwenge.kit.db import Database
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.sweeping import sweep

SWEEP_EXPIRED: Final = "auth.sweep_expired"

EXPIRING: Final = (RefreshToken, PasswordResetLink, PasswordResetCode)


class CredentialExpiry:
    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def run(self, _job: ClaimedJob) -> None:
        now = self._clock()
        for table in EXPIRING:
            await sweep(self._database, table, table.expires_at <= now)
