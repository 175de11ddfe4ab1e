"""What lets nobody in any more goes, also where nobody comes back to clear it away."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from bwenge.auth.expiry import SWEEP_EXPIRED, CredentialExpiry
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queue import ClaimedJob
from tests.support.application import Application
from tests.support.databases import SavepointDatabase


async def remaining(database: SavepointDatabase) -> dict[str, int]:
    counts = {}
    async with database.superuser() as connection:
        for table in ("refresh_tokens", "password_reset_links", "password_reset_codes"):
            counts[table] = await connection.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608  # named above
    return counts


async def sweep(database: SavepointDatabase, *, at: datetime) -> None:
    await CredentialExpiry(database, clock=lambda: at).run(ClaimedJob(new_id(), SWEEP_EXPIRED, None, 1, 5, {}))


async def test_expired_sessions_links_and_codes_go_and_others_stay(
    application: Application, database: SavepointDatabase
) -> None:
    owner = await application.register()
    async with database.superuser() as connection:
        values = {"user": owner.user_id, "org": owner.org_id}
        for statement in (
            (
                "INSERT INTO password_reset_links (token_hash, org_id, user_id, expires_at)"
                " VALUES ('x', :org, :user, now() + interval '1 h')"
            ),
            (
                "INSERT INTO password_reset_codes (user_id, org_id, issued_by, code_hash, expires_at)"
                " VALUES (:user, :org, :user, 'x', now() + interval '1 h')"
            ),
        ):
            await connection.execute(text(statement), values)
    every = {"refresh_tokens": 1, "password_reset_links": 1, "password_reset_codes": 1}
    now = datetime.now(UTC)
    await sweep(database, at=now)
    assert await remaining(database) == every
    await sweep(database, at=now + timedelta(hours=2))
    assert await remaining(database) == {"refresh_tokens": 1, "password_reset_links": 0, "password_reset_codes": 0}
    await sweep(database, at=now + timedelta(days=8))
    assert set((await remaining(database)).values()) == {0}
