"""One unit of work is one transaction, of one tenant, on the product's own pools."""

import pytest
from sqlalchemy import text

from bwenge.kit.db import PLATFORM, Database, DatabaseURLs
from bwenge.kit.ids import new_id

ADD = text("INSERT INTO organizations (id, name) VALUES (:id, 'School')")
COUNT = text("SELECT count(*) FROM organizations")


async def test_what_ends_well_is_committed(committed_database: Database) -> None:
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(ADD, {"id": new_id()})
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(COUNT) == 1


async def test_what_raises_is_rolled_back_whole(committed_database: Database) -> None:
    async def add_and_fail() -> None:
        async with committed_database.unit_of_work(PLATFORM) as session:
            await session.execute(ADD, {"id": new_id()})
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await add_and_fail()
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(COUNT) == 0


async def test_times_are_in_utc(committed_database: Database) -> None:
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(text("SHOW timezone")) == "UTC"


async def test_a_statement_that_never_ends_is_ended_by_the_server(committed_database: Database) -> None:
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(text("SHOW statement_timeout")) == "30s"


async def test_a_database_that_answers_is_pinged_without_a_word(committed_database: Database) -> None:
    await committed_database.ping()


def test_the_roles_passwords_are_not_shown() -> None:
    urls = DatabaseURLs.for_roles("postgresql+psycopg://h/db", app_password="ibanga-1", platform_password="ibanga-2")
    assert urls.app.username == "bwenge_app"
    assert urls.platform.username == "bwenge_platform"
    assert "ibanga" not in repr(urls)
