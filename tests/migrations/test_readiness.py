"""Whether a database has the schema that this release of the code needs."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from bwenge.apps.resources import SchemaTooOld, await_schema
from bwenge.kit.db import SINGLE, Database
from bwenge.migrations.readiness import has_present_schema
from tests.support.databases import role_urls
from tests.support.model_server import refused_port


@pytest.fixture
async def database(committed_url: URL) -> AsyncIterator[Database]:
    database = Database(role_urls(committed_url), pools=SINGLE)
    yield database
    await database.dispose()


async def administer(url: URL, statement: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def test_the_schema_of_this_release_is_ready(database: Database) -> None:
    assert await has_present_schema(database)
    await await_schema(database, seconds=0)


async def test_that_of_a_later_release_is_ready_too(database: Database, committed_url: URL) -> None:
    await administer(committed_url, "UPDATE alembic_version SET version_num = 'of-the-future'")
    assert await has_present_schema(database)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '0001'",
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
        "REVOKE ALL ON alembic_version FROM bwenge_platform",
    ],
)
async def test_every_other_one_is_not(database: Database, committed_url: URL, statement: str) -> None:
    await administer(committed_url, statement)
    assert not await has_present_schema(database)
    with pytest.raises(SchemaTooOld, match=r"older schema.* `bwenge migrate`"):
        await await_schema(database, seconds=0)


async def test_a_database_that_does_not_answer_is_waited_for_and_then_told(committed_url: URL) -> None:
    with refused_port() as port:
        database = Database(role_urls(committed_url.set(host="127.0.0.1", port=port, query={})), pools=SINGLE)
        with pytest.raises(SchemaTooOld, match="does not answer"):
            await await_schema(database, seconds=0)
        await database.dispose()
