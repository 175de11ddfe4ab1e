"""The embedded server has room for every connection that the one process may open."""

from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from bwenge.kit.db import POOL_SIZE, STEWARD_POOL_SIZE, Database
from bwenge.kit.embedded_postgres.tuning import server_settings
from bwenge.kit.jobs.queues import POOL_SIZE as RUNNER_POOL_SIZE

LISTENING = 1  # the job runner's, for NOTIFY
ADMINISTRATION = 2  # `bwenge migrate` or a person with psql, beside the start's own


def test_the_pools_and_all_else_fit_into_what_the_embedded_server_admits(admin_url: URL, tmp_path: Path) -> None:
    settings = server_settings({}, log_directory=tmp_path, socket_directory=tmp_path)
    engine = create_engine(admin_url)
    with engine.connect() as connection:
        reserved = [
            int(connection.scalar(text(f"SHOW {name}")) or 0)
            for name in ("superuser_reserved_connections", "reserved_connections")
        ]
    engine.dispose()
    # Both keep their defaults: nothing in the settings may say otherwise, or the sum below is of another server.
    assert not {"superuser_reserved_connections", "reserved_connections"} & settings.keys()
    wanted = 2 * RUNNER_POOL_SIZE + STEWARD_POOL_SIZE + LISTENING + ADMINISTRATION
    assert int(settings["max_connections"]) - sum(reserved) >= wanted


async def test_a_pool_never_grows_past_its_size(committed_database: Database) -> None:
    for engine in (committed_database._app, committed_database._platform):
        pool = engine.pool
        assert (pool.size(), pool._max_overflow) == (POOL_SIZE, 0)  # type: ignore[attr-defined]  # a queue pool's
