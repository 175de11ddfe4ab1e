"""A pooled connection never carries a tenant over to whoever borrows it next."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, SINGLE, TENANT_SETTING, Database
from bwenge.kit.ids import new_id
from tests.support.databases import role_urls

_ORG_ID = new_id()


class UseCaseFailed(Exception):
    pass


@pytest.fixture
async def database_of_one_connection(committed_url: URL) -> AsyncIterator[Database]:
    """Every unit of work borrows the same connection, in a database with one organisation."""
    database = Database(role_urls(committed_url), pools=SINGLE)
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(
            text("INSERT INTO organizations (id, name) VALUES (:id, 'Lycée de Kigali')"), {"id": _ORG_ID}
        )
    yield database
    await database.dispose()


async def backend(session: AsyncSession) -> int:
    pid: int = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    return pid


async def organisations(session: AsyncSession) -> int:
    count: int = (await session.execute(text("SELECT count(*) FROM organizations"))).scalar_one()
    return count


async def fail_in_a_unit_of_work(database: Database) -> None:
    async with database.unit_of_work(_ORG_ID) as session:
        assert await organisations(session) == 1
        raise UseCaseFailed


async def assert_nothing_is_seen_without_a_tenant(database: Database, *, connection_of: int) -> None:
    async with AsyncSession(database._app) as session:
        assert await backend(session) == connection_of
        assert await organisations(session) == 0
        setting = await session.execute(text("SELECT current_setting(:name, true)"), {"name": TENANT_SETTING})
        assert setting.scalar_one() in {"", None}


async def test_after_a_commit_the_next_borrower_sees_no_tenant(database_of_one_connection: Database) -> None:
    async with database_of_one_connection.unit_of_work(_ORG_ID) as session:
        assert await organisations(session) == 1
        connection = await backend(session)

    await assert_nothing_is_seen_without_a_tenant(database_of_one_connection, connection_of=connection)


async def test_after_a_failure_the_next_borrower_sees_no_tenant(database_of_one_connection: Database) -> None:
    async with database_of_one_connection.unit_of_work(_ORG_ID) as session:
        connection = await backend(session)

    with pytest.raises(UseCaseFailed):
        await fail_in_a_unit_of_work(database_of_one_connection)

    await assert_nothing_is_seen_without_a_tenant(database_of_one_connection, connection_of=connection)


async def test_the_next_tenant_sees_nothing_of_the_one_before(database_of_one_connection: Database) -> None:
    async with database_of_one_connection.unit_of_work(_ORG_ID) as session:
        connection = await backend(session)

    async with database_of_one_connection.unit_of_work(new_id()) as session:
        assert await backend(session) == connection
        assert await organisations(session) == 0
