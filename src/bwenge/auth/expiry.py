"""Removing what lets nobody in any more: sessions of those who never came back, links and codes that nobody used."""

from typing import Final

from bwenge.auth import expiry_queries
from bwenge.auth.tokens import Clock, utc_now
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.jobs.queue import ClaimedJob

SWEEP_EXPIRED: Final = "auth.sweep_expired"


class CredentialExpiry:
    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def run(self, _job: ClaimedJob) -> None:
        """Remove in bounded transactions; what is left by one that is killed, the next removes."""
        now = self._clock()
        for table in expiry_queries.EXPIRING:
            while True:
                async with self._database.unit_of_work(PLATFORM) as session:
                    removed = await expiry_queries.remove_some(session, table, before=now)
                if removed < expiry_queries.AT_ONCE:
                    break
