"""Every query on the counts of wrong passwords."""

from datetime import datetime
from typing import Final

from sqlalchemy import delete as delete_from
from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import LoginFailures

CLEARED_AT_ONCE: Final = 100
"""More than one failure adds, so the table stays as large as what is remembered."""


async def lock(session: AsyncSession, account_hash: bytes, network: str, *, at: datetime) -> LoginFailures:
    """The count, without a failure where there was none; nobody else counts there before the transaction ends."""
    new = insert(LoginFailures).values(
        account_hash=account_hash, network=network, failures=0, first_failed_at=at, last_failed_at=at
    )
    await session.execute(new.on_conflict_do_nothing())
    return await session.get_one(LoginFailures, (account_hash, network), with_for_update=True)


async def delete(session: AsyncSession, account_hash: bytes, *, network: str | None) -> None:
    statement = delete_from(LoginFailures).where(LoginFailures.account_hash == account_hash)
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
