"""Events are facts beside the act: kept as given, and each tenant's own."""

from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.analytics.contract import NewEvent
from bwenge.analytics.service import EventLog
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.ids import new_id
from tests.support.databases import SavepointDatabase


async def test_an_event_is_kept_as_it_was_told_with_its_time(database: SavepointDatabase, org_id: UUID) -> None:
    persona_id, session_id = new_id(), new_id()
    told = NewEvent(
        org_id=org_id,
        event_type="answer_given",
        persona_id=persona_id,
        session_id=session_id,
        payload={"grounded": True, "citations": 2},
    )
    async with database.unit_of_work(org_id) as session:
        await EventLog().record(session, told)
        row = (
            await session.execute(text("SELECT *, occurred_at <= clock_timestamp() AS past FROM analytics_events"))
        ).one()
    assert (row.org_id, row.event_type, row.user_id) == (org_id, "answer_given", None)
    assert (row.persona_id, row.session_id) == (persona_id, session_id)
    assert row.payload == {"grounded": True, "citations": 2}
    assert row.past


async def test_an_event_is_seen_by_its_own_tenant_only(database: SavepointDatabase, org_id: UUID) -> None:
    async with database.unit_of_work(org_id) as session:
        await EventLog().record(session, NewEvent(org_id=org_id, event_type="answer_given"))
    async with database.unit_of_work(new_id()) as session:
        assert await session.scalar(text("SELECT count(*) FROM analytics_events")) == 0


async def test_an_event_is_undone_with_the_act_that_it_speaks_of(committed_database: Database) -> None:
    org_id = new_id()
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": org_id})

    async def record_and_fail() -> None:
        async with committed_database.unit_of_work(org_id) as session:
            await EventLog().record(session, NewEvent(org_id=org_id, event_type="source_uploaded"))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await record_and_fail()
    async with committed_database.unit_of_work(org_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM analytics_events")) == 0
