import pytest

from tests.support.application import Application
from tests.support.furnished import FurnishedSchool, furnish


@pytest.fixture
async def schools(application: Application) -> tuple[FurnishedSchool, FurnishedSchool]:
    """Ours, and a foreign one, each with one of everything."""
    return await furnish(application), await furnish(application)
