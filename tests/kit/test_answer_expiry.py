"""Kept answers go when their day is over, whoever's they are."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select

from bwenge.kit.db import PLATFORM
from bwenge.kit.idempotency.expiry import SWEEP_ANSWERS, AnswerExpiry
from bwenge.kit.idempotency.models import IdempotencyKey
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queue import ClaimedJob
from tests.support.databases import SavepointDatabase


async def test_expired_answers_go_and_others_stay(database: SavepointDatabase) -> None:
    now = datetime.now(UTC)
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            insert(IdempotencyKey),
            [
                {
                    "owner": key.encode(),
                    "route": "POST /x",
                    "key": key,
                    "org_id": None,
                    "fingerprint": b"",
                    "status": 200,
                    "answer": b"",
                    "expires_at": now + timedelta(hours=hours),
                }
                for key, hours in (("expired", -1), ("kept", 1))
            ],
        )
    await AnswerExpiry(database).run(ClaimedJob(new_id(), SWEEP_ANSWERS, None, 1, 5, {}))
    async with database.unit_of_work(PLATFORM) as session:
        assert list(await session.scalars(select(IdempotencyKey.key))) == ["kept"]
