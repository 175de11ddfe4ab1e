"""Removing kept answers whose day is over, also of tenants that send no more requests."""

from typing import Final

from sqlalchemy import delete, func, select, tuple_

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.idempotency.models import IdempotencyKey
from bwenge.kit.jobs.queue import ClaimedJob

SWEEP_ANSWERS: Final = "answers.sweep"

_AT_ONCE: Final = 1_000
_PRIMARY_KEY: Final = (IdempotencyKey.owner, IdempotencyKey.route, IdempotencyKey.key)


class AnswerExpiry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, _job: ClaimedJob) -> None:
        """Remove in bounded transactions; what is left by one that is killed, the next removes."""
        while await self._remove_some() == _AT_ONCE:
            pass

    async def _remove_some(self) -> int:
        expired = (
            select(*_PRIMARY_KEY)
            .where(IdempotencyKey.expires_at <= func.clock_timestamp())
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        async with self._database.unit_of_work(PLATFORM) as session:
            removed = await session.execute(
                delete(IdempotencyKey)
                .where(tuple_(*_PRIMARY_KEY).in_(expired))
                .returning(IdempotencyKey.route)
                .execution_options(synchronize_session=False)
            )
            return len(removed.all())
