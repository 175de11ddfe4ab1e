"""A tenant's rows, read whole and removed without a trace, a bounded number of them at a time."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CursorResult,
    Select,
    Text,
    cast,
    delete,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, Database, WholeTenant
from bwenge.kit.tenant_data.catalogue import KeptRecord, Replacement, TenantCatalogue, TenantTable

READ_AT_ONCE: Final = 200
ERASED_AT_ONCE: Final = 1_000
"""Rows in one transaction: a fraction of a second, with an index for each foreign key that points to them."""


async def json_lines(session: AsyncSession, table: TenantTable, org_id: UUID) -> AsyncIterator[Sequence[str]]:
    """The rows as JSON objects without their secrets, in batches, by a cursor on the server."""
    rows = (
        select(*table.shown)
        .where(table.tenant_column == org_id)
        .order_by(*table.table.primary_key.columns)
        .subquery("exported")
    )
    line = cast(func.row_to_json(literal_column("exported")), Text)
    found = await session.stream_scalars(select(line).select_from(rows), execution_options={"yield_per": READ_AT_ONCE})
    async for batch in found.partitions():
        yield batch


async def has_any(database: Database, catalogue: TenantCatalogue, org_id: UUID) -> bool:
    """Whether a table holds a row of the tenant."""
    present = [exists().where(table.tenant_column == org_id) for table in catalogue]
    async with database.unit_of_work(WholeTenant(org_id)) as session:
        return bool(await session.scalar(select(or_(false(), *present))))


async def erase(database: Database, table: TenantTable, org_id: UUID, *, at_once: int = ERASED_AT_ONCE) -> None:
    """Delete the tenant's rows, so many in each transaction. May be repeated after a crash."""
    twin = table.table.alias("twin")
    some: Select[Any] = (
        select(literal_column("twin.ctid")).select_from(twin).where(twin.columns[table.tenant] == org_id)
    )
    places = func.array(some.limit(at_once).correlate(None).scalar_subquery())
    # By their place on disk: the server's plan does not depend on what it believes of the table's size.
    statement = delete(table.table).where(
        table.tenant_column == org_id, literal_column(f"{table.name}.ctid") == func.any(places)
    )
    while True:
        async with database.unit_of_work(WholeTenant(org_id)) as session:
            if _touched(await session.execute(statement)) == 0:
                return


async def replace(
    database: Database, table: TenantTable, org_id: UUID, *, reference: UUID, at_once: int = ERASED_AT_ONCE
) -> None:
    """Take out of records that stay who the tenant and its people were. May be repeated after a crash."""
    record = _record_of(table)
    key = tuple_(*table.table.primary_key.columns)
    twin = table.table.alias("twin")
    some = (
        select(*(twin.columns[column.name] for column in table.table.primary_key.columns))
        .where(twin.columns[table.tenant] == org_id)
        .limit(at_once)
    )
    values = {
        column: reference if replacement is Replacement.REFERENCE else None
        for column, replacement in record.replaced.items()
    }
    statement = update(table.table).where(table.tenant_column == org_id, key.in_(some)).values(values)
    while True:
        # The tenant's own role may not give a row away.
        async with database.unit_of_work(PLATFORM) as session:
            if _touched(await session.execute(statement)) == 0:
                return


def _record_of(table: TenantTable) -> KeptRecord:
    if table.record is None:
        raise ValueError(f"{table.name} keeps no records")
    return table.record


def _touched(result: Any) -> int:
    if not isinstance(result, CursorResult):
        raise TypeError("expected the result of a writing statement")
    return result.rowcount
