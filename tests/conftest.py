"""One PostgreSQL a worker; each test sees it empty."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from bwenge.kit.db import Database
from bwenge.kit.embedded_postgres import EmbeddedPostgres
from bwenge.kit.ids import new_id
from bwenge.migrations.runner import migrate
from tests.support.application import Application, open_application
from tests.support.databases import PASSWORDS, SavepointDatabase, copied_database, role_urls, savepoint_database

pytest_plugins = ["tests.support.skip_gate"]

# A slow moment of the machine is no wrong answer.
settings.register_profile(
    "untimed",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")

CORPUS = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def admin_url() -> Iterator[URL]:
    """The administrator's URL of a migrated database that no test changes.

    BWENGE_TEST_DATABASE_URL names an external server's empty database instead of the embedded one.
    """
    external = os.environ.get("BWENGE_TEST_DATABASE_URL")
    if external:
        migrate(external, PASSWORDS)
        yield make_url(external)
        return
    settings = {"fsync": "off", "max_connections": "100"}
    # Not below pytest's own folder: each session of pytest resets the access list of that.
    with (
        TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(Path(folder), password="test-only", settings=settings) as server,
    ):
        migrate(server.url, PASSWORDS)
        yield make_url(server.url)


@pytest.fixture
async def database(admin_url: URL) -> AsyncIterator[SavepointDatabase]:
    """Fast isolation: everything that the test does is rolled back."""
    async with savepoint_database(admin_url) as database:
        yield database


@pytest.fixture
async def committed_url(admin_url: URL) -> AsyncIterator[URL]:
    """The administrator's URL of a database of the test's own, for what must really commit."""
    async with copied_database(admin_url, name=f"test_{new_id().hex}") as url:
        yield url


@pytest.fixture
async def committed_database(committed_url: URL) -> AsyncIterator[Database]:
    """The product's own two pools on a database of the test's own."""
    database = Database(role_urls(committed_url))
    try:
        yield database
    finally:
        await database.dispose()


@pytest.fixture
async def org_id(database: SavepointDatabase) -> UUID:
    """An organisation in `database`."""
    org_id = new_id()
    async with database.superuser() as connection:
        await connection.execute(
            text("INSERT INTO organizations (id, name) VALUES (:id, 'Groupe Scolaire Kimironko')"), {"id": org_id}
        )
    return org_id


@pytest.fixture
async def application(database: SavepointDatabase, tmp_path: Path) -> AsyncIterator[Application]:
    """The whole web application on `database`."""
    async with open_application(database, tmp_path) as application:
        yield application


@pytest.fixture
async def committed_application(committed_database: Database, tmp_path: Path) -> AsyncIterator[Application]:
    """The same on the product's own pools, where two transactions meet."""
    async with open_application(committed_database, tmp_path) as application:
        yield application
