"""Each tenant's rows, table by table: without a tenant there are none, and with one there are only its own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pytest
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Table, column, delete, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from bwenge.kit.db import APP_ROLE, OWNER_ROLE, PLATFORM_ROLE, TENANT_SETTING
from bwenge.kit.ids import new_id
from bwenge.migrations.access import ACCESS
from bwenge.migrations.metadata import metadata
from tests.support.databases import SavepointDatabase
from tests.support.tenant_rows import Row, new_row, tenant_rows

TENANTS: Final = {name: access.tenant for name, access in ACCESS.items() if access.tenant is not None}


ADMINISTRATOR: Final = "NONE"
"""In SET ROLE: back to who logged in."""


def tables_that_the_application_may(privilege: str) -> list[str]:
    return [
        name for name in sorted(TENANTS) if privilege in (ACCESS[name].app or "SELECT" * bool(ACCESS[name].app_reads))
    ]


@dataclass(frozen=True)
class TwoTenants:
    """A database in which each table holds one row of each of two organisations."""

    connection: AsyncConnection
    ours: UUID
    theirs: UUID
    their_rows: Mapping[str, Row]

    @asynccontextmanager
    async def as_role(self, role: str, *, tenant: UUID | None) -> AsyncIterator[AsyncConnection]:
        """The connection as that role sees it; whatever happens in the block is undone."""
        async with self.connection.begin_nested() as savepoint:
            await self.connection.execute(text(f"SET LOCAL ROLE {role}"))
            await self.connection.execute(
                text("SELECT set_config(:name, :value, true)"),
                {"name": TENANT_SETTING, "value": "" if tenant is None else str(tenant)},
            )
            try:
                yield self.connection
            finally:
                await savepoint.rollback()

    async def count(self, table: Table, *, role: str, tenant: UUID | None) -> int:
        async with self.as_role(role, tenant=tenant) as connection:
            return await connection.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
async def two_tenants(database: SavepointDatabase) -> AsyncIterator[TwoTenants]:
    ours, theirs = new_id(), new_id()
    rows = {org_id: tenant_rows(metadata, org_id, tenants=TENANTS) for org_id in (ours, theirs)}
    async with database.superuser() as connection:
        for table in metadata.sorted_tables:
            for org_id in (ours, theirs):
                await connection.execute(insert(table).values(rows[org_id][table.name]))
        yield TwoTenants(connection, ours, theirs, rows[theirs])


def tenant_of(table: Table) -> Any:
    return column(TENANTS[table.name])


def refusal(error: pytest.ExceptionInfo[ProgrammingError]) -> str:
    assert isinstance(error.value.orig, InsufficientPrivilege)
    return str(error.value.orig)


@pytest.mark.parametrize("name", tables_that_the_application_may("SELECT"))
async def test_without_a_tenant_the_application_sees_no_row(two_tenants: TwoTenants, name: str) -> None:
    table = metadata.tables[name]

    assert await two_tenants.count(table, role=ADMINISTRATOR, tenant=None) == 2
    assert await two_tenants.count(table, role=APP_ROLE, tenant=None) == 0


@pytest.mark.parametrize("name", tables_that_the_application_may("SELECT"))
async def test_a_tenant_sees_its_own_row_and_no_other(two_tenants: TwoTenants, name: str) -> None:
    table = metadata.tables[name]

    async with two_tenants.as_role(APP_ROLE, tenant=two_tenants.ours) as connection:
        seen = list(await connection.scalars(select(tenant_of(table)).select_from(table)))

    assert seen == [two_tenants.ours]


@pytest.mark.parametrize("name", tables_that_the_application_may("UPDATE"))
async def test_a_tenant_changes_its_own_row_and_no_other(two_tenants: TwoTenants, name: str) -> None:
    table = metadata.tables[name]
    some_column = next(iter(table.primary_key.columns))

    async with two_tenants.as_role(APP_ROLE, tenant=two_tenants.ours) as connection:
        changed = await connection.execute(update(table).values({some_column: some_column}))

    assert changed.rowcount == 1


@pytest.mark.parametrize("name", tables_that_the_application_may("UPDATE"))
async def test_a_tenant_cannot_give_its_row_away(two_tenants: TwoTenants, name: str) -> None:
    table = metadata.tables[name]

    async with two_tenants.as_role(APP_ROLE, tenant=two_tenants.ours) as connection:
        with pytest.raises(ProgrammingError) as error:
            await connection.execute(update(table).values({TENANTS[name]: two_tenants.theirs}))

    assert "row-level security" in refusal(error)


@pytest.mark.parametrize("name", tables_that_the_application_may("DELETE"))
async def test_a_tenant_deletes_nothing_of_another(two_tenants: TwoTenants, name: str) -> None:
    table = metadata.tables[name]

    async with two_tenants.as_role(APP_ROLE, tenant=two_tenants.ours) as connection:
        deleted = await connection.execute(delete(table).where(tenant_of(table) == two_tenants.theirs))

    assert deleted.rowcount == 0


@pytest.mark.parametrize("name", tables_that_the_application_may("INSERT"))
async def test_a_tenant_inserts_nothing_for_another(two_tenants: TwoTenants, name: str) -> None:
    table = metadata.tables[name]
    row = new_row(table, two_tenants.theirs, parents=two_tenants.their_rows, tenant_column=TENANTS[name])

    async with two_tenants.as_role(APP_ROLE, tenant=two_tenants.ours) as connection:
        with pytest.raises(ProgrammingError) as error:
            await connection.execute(insert(table).values(row))

    assert "row-level security" in refusal(error)


@pytest.mark.parametrize(
    "name", [name for name in sorted(ACCESS) if ACCESS[name].app is None and not ACCESS[name].app_reads]
)
async def test_what_is_the_platforms_alone_is_denied_to_the_application(two_tenants: TwoTenants, name: str) -> None:
    with pytest.raises(ProgrammingError) as error:
        await two_tenants.count(metadata.tables[name], role=APP_ROLE, tenant=two_tenants.ours)

    assert "permission denied" in refusal(error)


@pytest.mark.parametrize("name", [name for name in sorted(TENANTS) if ACCESS[name].platform is not None])
async def test_the_platform_sees_every_tenants_rows_where_it_is_granted(two_tenants: TwoTenants, name: str) -> None:
    assert await two_tenants.count(metadata.tables[name], role=PLATFORM_ROLE, tenant=None) == 2


@pytest.mark.parametrize("name", sorted(TENANTS))
async def test_even_the_owner_sees_no_tenants_row(two_tenants: TwoTenants, name: str) -> None:
    assert await two_tenants.count(metadata.tables[name], role=OWNER_ROLE, tenant=two_tenants.ours) == 0
