from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.ids import new_id
from tests.support.databases import SavepointDatabase
from tests.support.quotas import Metered


@pytest.fixture
def metered(database: SavepointDatabase, org_id: UUID) -> Metered:
    """A school in Kigali on the free plan, in the middle of June."""
    return Metered(database, org_id)


@pytest.fixture
async def committed_metered(committed_database: Database) -> Metered:
    """The same on the product's own pools, where transactions run beside each other."""
    org_id = new_id()
    async with committed_database.unit_of_work(PLATFORM) as session:
        await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'School')"), {"id": org_id})
    return Metered(committed_database, org_id)
