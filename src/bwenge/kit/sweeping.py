"""Removing rows that nobody needs any more, over all tenants, a bounded number of them at a time."""

from typing import Final

from sqlalchemy import ColumnElement, delete, select, tuple_

from bwenge.kit.db import PLATFORM, Base, Database

AT_ONCE: Final = 1_000
"""Rows in one transaction."""


async def sweep(database: Database, table: type[Base], old: ColumnElement[bool]) -> None:
    """Remove the rows of which `old` holds; what another transaction works on is left to the next sweep.

    May be killed at any moment, and repeated.
    """
    key = tuple(table.__mapper__.primary_key)
    some = select(*key).where(old).limit(AT_ONCE).with_for_update(skip_locked=True)
    statement = delete(table).where(tuple_(*key).in_(some)).returning(*key)
    removed = AT_ONCE
    while removed == AT_ONCE:
        async with database.unit_of_work(PLATFORM) as session:
            rows = await session.execute(statement, execution_options={"synchronize_session": False})
            removed = len(rows.all())
