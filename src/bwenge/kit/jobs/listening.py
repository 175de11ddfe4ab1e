"""Being woken by PostgreSQL when a job may run."""

import asyncio
from typing import Final

import psycopg
import structlog
from sqlalchemy.engine import URL

from bwenge.kit.db import Database
from bwenge.kit.jobs.queue import CHANNEL

_log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 1.0


async def listen(database: Database, wake: asyncio.Event, *, again_after: float = POLL_SECONDS) -> None:
    """Set the event at each notification, until cancelled, on a connection of its own beside the pools.

    Where that connection is lost, the caller's poll alone serves until it is back.
    """
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                conninfo_of(database.urls.platform), autocommit=True
            ) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                wake.set()
                async for _notification in connection.notifies():
                    wake.set()
        except psycopg.Error:
            _log.warning("job_listen_failed", exc_info=True)
        await asyncio.sleep(again_after)


async def wait_for_wake(wake: asyncio.Event, *, at_most: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(at_most):
            await wake.wait()
    except TimeoutError:
        return


def conninfo_of(url: URL) -> str:
    """An SQLAlchemy URL in the form of libpq."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
