"""Every query that removes expired credentials, over all tenants."""

from datetime import datetime
from typing import Final

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import PasswordResetCode, PasswordResetLink, RefreshToken

EXPIRING: Final = (RefreshToken, PasswordResetLink, PasswordResetCode)
AT_ONCE: Final = 1_000

Expiring = type[RefreshToken] | type[PasswordResetLink] | type[PasswordResetCode]


async def remove_some(session: AsyncSession, table: Expiring, *, before: datetime) -> int:
    """Remove up to `AT_ONCE` rows that had expired by then; what another transaction works on is left. Counts them."""
    key = tuple(table.__mapper__.primary_key)
    old = select(*key).where(table.expires_at <= before).limit(AT_ONCE).with_for_update(skip_locked=True)
    removed = await session.execute(
        delete(table).where(tuple_(*key).in_(old)).returning(*key).execution_options(synchronize_session=False)
    )
    return len(removed.all())
