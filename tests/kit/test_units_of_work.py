"""One unit of work is one transaction, of one tenant, on the product's own pools."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import PLATFORM, SINGLE, Database, DatabaseUnavailable, DatabaseURLs
from bwenge.kit.ids import new_id
from tests.support.databases import role_urls

ADD = text("INSERT INTO organizations (id, name) VALUES (:id, 'School')")
COUNT = text("SELECT count(*) FROM organizations")
Step = str | Callable[[AsyncSession], Awaitable[None]]


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
    urls = DatabaseURLs.for_roles(
        "postgresql+psycopg://h/db",
        app_password="ibanga-1",
        platform_password="ibanga-2",
        steward_password="ibanga-3",
    )
    assert urls.app.username == "bwenge_app"
    assert urls.platform.username == "bwenge_platform"
    assert "ibanga" not in repr(urls)


# A database that is away.


@pytest.fixture
async def absent_database(tmp_path: Path) -> AsyncIterator[Database]:
    """Nothing listens where it should be."""
    url = URL.create("postgresql+psycopg", database="bwenge", query={"host": str(tmp_path)})
    database = Database(role_urls(url))
    yield database
    await database.dispose()


async def end_connection(database: Database, session: AsyncSession) -> None:
    """As a server that is shut down ends it."""
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    async with database.unit_of_work(PLATFORM) as other:
        # Waits until the other process is gone, so that its connection's next use is sure to fail.
        assert await other.scalar(text("SELECT pg_terminate_backend(:pid, 20000)"), {"pid": pid})


async def do(database: Database, *steps: Step) -> None:
    """One unit of work."""
    async with database.unit_of_work(PLATFORM) as session:
        for step in steps:
            if isinstance(step, str):
                await session.execute(text(step))
            else:
                await step(session)


async def test_no_server_is_told_as_unavailable(absent_database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await do(absent_database, "SELECT 1")


async def test_a_connection_that_breaks_is_told_as_unavailable(committed_database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await do(committed_database, partial(end_connection, committed_database), "SELECT 1")
    await do(committed_database, "SELECT 1")


async def test_a_commit_that_finds_no_server_is_told_as_unavailable(committed_database: Database) -> None:
    add = "INSERT INTO organizations (id, name) VALUES (gen_random_uuid(), 'School')"
    with pytest.raises(DatabaseUnavailable):
        await do(committed_database, add, partial(end_connection, committed_database))
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(COUNT) == 0


async def test_a_pool_without_a_free_connection_is_told_as_unavailable(
    committed_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(role_urls(committed_url), pools=SINGLE)
    monkeypatch.setattr(database._platform.pool, "_timeout", 0.01)

    async def ask_again(_session: AsyncSession) -> None:
        with pytest.raises(DatabaseUnavailable):
            await do(database, "SELECT 1")

    try:
        await do(database, "SELECT 1", ask_again)
    finally:
        await database.dispose()


@pytest.mark.parametrize("state", ["08006", "53100", "53300", "57P01", "57P03"])
async def test_a_server_that_has_no_room_or_stops_is_told_as_unavailable(
    committed_database: Database, state: str
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await do(committed_database, f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")


async def test_the_victim_of_a_deadlock_is_told_as_unavailable_and_the_other_goes_on(
    committed_database: Database,
) -> None:
    first, second = ("SELECT pg_advisory_xact_lock(1)", "SELECT pg_advisory_xact_lock(2)")
    both_hold = asyncio.Barrier(2)

    async def meet(_session: AsyncSession) -> None:
        await both_hold.wait()

    ends = await asyncio.gather(
        do(committed_database, first, meet, second),
        do(committed_database, second, meet, first),
        return_exceptions=True,
    )
    assert {type(end) for end in ends} == {DatabaseUnavailable, type(None)}


async def test_a_defect_of_ours_is_not_told_as_unavailable(committed_database: Database) -> None:
    with pytest.raises(ProgrammingError):
        await do(committed_database, "SELECT nothing")


async def test_a_statement_that_takes_too_long_is_not_told_as_unavailable(committed_database: Database) -> None:
    with pytest.raises(OperationalError, match="statement timeout"):
        await do(committed_database, "SET LOCAL statement_timeout = 1", "SELECT pg_sleep(20)")
