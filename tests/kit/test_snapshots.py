"""A snapshot sees one moment and changes nothing; the steward sees one tenant, and all of it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bwenge.kit.db import PLATFORM, Database, WholeTenant
from bwenge.kit.ids import new_id

COUNT = text("SELECT count(*) FROM organizations")
INSERT = text("INSERT INTO organizations (id, name) VALUES (:id, 'School')")


async def test_a_snapshot_does_not_see_what_is_committed_meanwhile(committed_database: Database) -> None:
    async with committed_database.unit_of_work(PLATFORM, snapshot=True) as session:
        assert await session.scalar(COUNT) == 0
        async with committed_database.unit_of_work(PLATFORM) as other:
            await other.execute(INSERT, {"id": new_id()})
        assert await session.scalar(COUNT) == 0
    async with committed_database.unit_of_work(PLATFORM) as session:
        assert await session.scalar(COUNT) == 1


async def test_a_snapshot_writes_nothing_and_its_connection_may_write_again(committed_database: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only"):
        async with committed_database.unit_of_work(PLATFORM, snapshot=True) as session:
            await session.execute(INSERT, {"id": new_id()})
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(INSERT, {"id": new_id()})
        assert await session.scalar(text("SHOW transaction_isolation")) == "read committed"


async def test_the_steward_sees_one_tenant_only(committed_database: Database) -> None:
    ours, theirs = new_id(), new_id()
    async with committed_database.unit_of_work(PLATFORM) as session:
        for org_id in (ours, theirs):
            await session.execute(INSERT, {"id": org_id})
    async with committed_database.unit_of_work(WholeTenant(ours), snapshot=True) as session:
        assert (await session.scalars(text("SELECT id FROM organizations"))).all() == [ours]
