"""Removing kept answers whose day is over, also of tenants that send no more requests."""

from typing import Final

from sqlalchemy import func

from bwenge.kit.db import Database
from bwenge.kit.idempotency.models import IdempotencyKey
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.sweeping import sweep

SWEEP_ANSWERS: Final = "answers.sweep"


class AnswerExpiry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, _job: ClaimedJob) -> None:
        await sweep(self._database, IdempotencyKey, IdempotencyKey.expires_at <= func.clock_timestamp())
