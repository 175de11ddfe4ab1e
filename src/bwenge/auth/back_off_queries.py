"""Every query on the counts of wrong passwords."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import case, select, tuple_
from sqlalchemy import delete as delete_from
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import LoginFailures

CLEARED_AT_ONCE: Final = 100
"""More than one failure adds, so the table stays as large as what is remembered."""


async def get(session: AsyncSession, account_hash: bytes, network: str) -> LoginFailures | None:
    return await session.get(LoginFailures, (account_hash, network))


async def add_failure(
    session: AsyncSession, account_hash: bytes, network: str, *, at: datetime, free: int, window: timedelta
) -> None:
    """One more in one statement, so that failures at the same moment all count; the first one where they are forgotten.

    Up to `free` failures are forgotten a `window` after the first one, more of them a `window` after the last one.
    """
    new = insert(LoginFailures).values(
        account_hash=account_hash, network=network, failures=1, first_failed_at=at, last_failed_at=at
    )
    since = case((LoginFailures.failures >= free, LoginFailures.last_failed_at), else_=LoginFailures.first_failed_at)
    is_forgotten = since < at - window
    await session.execute(
        new.on_conflict_do_update(
            index_elements=[LoginFailures.account_hash, LoginFailures.network],
            set_={
                "failures": case((is_forgotten, 1), else_=LoginFailures.failures + 1),
                "first_failed_at": case((is_forgotten, at), else_=LoginFailures.first_failed_at),
                "last_failed_at": at,
            },
        )
    )


async def delete(session: AsyncSession, account_hashes: Sequence[bytes], *, network: str | None) -> None:
    statement = delete_from(LoginFailures).where(LoginFailures.account_hash.in_(account_hashes))
    if network is not None:
        statement = statement.where(LoginFailures.network == network)
    await session.execute(statement)


async def delete_before(session: AsyncSession, moment: datetime) -> None:
    """What another transaction works on is left to the next call."""
    key = tuple_(LoginFailures.account_hash, LoginFailures.network)
    old = (
        select(LoginFailures.account_hash, LoginFailures.network)
        .where(LoginFailures.last_failed_at < moment)
        .limit(CLEARED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    await session.execute(delete_from(LoginFailures).where(key.in_(old)).execution_options(synchronize_session=False))
