"""The embedded server has room for every connection that the processes of either topology may open."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from bwenge.apps.local_split import JOBS_AT_ONCE
from bwenge.apps.resources import SERVING_AND_JOBS
from bwenge.apps.topology import SERVICES
from bwenge.apps.worker import CHILD_POOLS
from bwenge.kit.db import POOL_SIZE, SINGLE, Database
from bwenge.kit.embedded_postgres.tuning import server_settings

LISTENING = 1  # the job runner's, for NOTIFY
ADMINISTRATION = 2  # `bwenge migrate` or a person with psql, beside the start's own


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(SERVING_AND_JOBS.total + LISTENING, id="all-in-one"),
        pytest.param(
            sum(service.pools.total for service in SERVICES.values())
            + JOBS_AT_ONCE * CHILD_POOLS.total
            # Beside the worker and beside beat runs a relay, and the supervisor makes the demo data.
            + 2 * (SINGLE.total + LISTENING)
            + SINGLE.total,
            id="split",
        ),
    ],
)
def test_the_pools_and_all_else_fit_into_what_the_embedded_server_admits(
    admin_url: URL, tmp_path: Path, wanted: int
) -> None:
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
    assert int(settings["max_connections"]) - sum(reserved) >= wanted + ADMINISTRATION


async def test_a_pool_never_grows_past_its_size(committed_database: Database) -> None:
    for engine in (committed_database._app, committed_database._platform):
        pool = engine.pool
        assert (pool.size(), pool._max_overflow) == (POOL_SIZE, 0)  # type: ignore[attr-defined]  # a queue pool's
