from collections.abc import AsyncIterator

import pytest

from bwenge.kit.db import Database
from tests.support.databases import SavepointDatabase
from tests.support.schools import PersonaAPI, School, persona_api


@pytest.fixture
async def api(database: SavepointDatabase) -> AsyncIterator[PersonaAPI]:
    async with persona_api(database) as api:
        yield api


@pytest.fixture
async def committed_api(committed_database: Database) -> AsyncIterator[PersonaAPI]:
    """On the product's own pools, where what commits commits."""
    async with persona_api(committed_database) as api:
        yield api


@pytest.fixture
async def school(api: PersonaAPI) -> School:
    return await api.new_school()


@pytest.fixture
async def other_school(api: PersonaAPI) -> School:
    return await api.new_school()
