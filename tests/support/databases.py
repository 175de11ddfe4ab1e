"""Databases for tests: one server a worker, isolation by savepoints or, where commits matter, by a copied database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from bwenge.kit.db import PLATFORM, Database, DatabaseURLs, Scope, role_of, set_tenant, tenant_of
from bwenge.migrations.runner import RolePasswords

PASSWORDS = RolePasswords(app="app-test", platform="platform-test", steward="steward-test")


class SavepointDatabase(Database):
    """The product's database on one connection, inside a transaction that is never committed.

    Each unit of work is a savepoint under the role that would have logged in, so grants and row-level security hold as
    in service. Units of work take turns; nested ones would deadlock, as they should never be.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def unit_of_work(self, scope: Scope, *, snapshot: bool = False) -> AsyncIterator[AsyncSession]:
        """Every statement may write: a snapshot would have to be the first thing that the one transaction does."""
        del snapshot
        org_id = tenant_of(scope)
        async with self._turn:
            await self._connection.execute(text(f"SET LOCAL ROLE {role_of(scope)}"))
            await self._connection.execute(text("SELECT set_config('bwenge.org_id', '', true)"))
            try:
                async with (
                    AsyncSession(
                        self._connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
                    ) as session,
                    session.begin(),
                ):
                    if org_id is not None:
                        await set_tenant(session, org_id)
                    yield session
            finally:
                await self._connection.execute(text("RESET ROLE"))

    @asynccontextmanager
    async def superuser(self) -> AsyncIterator[AsyncConnection]:
        """Look at everything, past row-level security, between units of work."""
        async with self._turn:
            yield self._connection

    async def ping(self) -> None:
        await self._connection.execute(text("SELECT 1"))

    async def dispose(self) -> None:
        """The fixture owns the connection."""


@asynccontextmanager
async def savepoint_database(admin_url: URL) -> AsyncIterator[SavepointDatabase]:
    engine = create_async_engine(admin_url)
    try:
        async with engine.connect() as connection:
            transaction = await connection.begin()
            try:
                yield SavepointDatabase(connection)
            finally:
                await transaction.rollback()
    finally:
        await engine.dispose()


@asynccontextmanager
async def copied_database(admin_url: URL, *, name: str) -> AsyncIterator[URL]:
    """A database of its own, copied from the migrated one; yields the administrator's URL of the copy."""
    maintenance = create_async_engine(admin_url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        async with maintenance.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {admin_url.database}"))
            try:
                yield admin_url.set(database=name)
            finally:
                await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        await maintenance.dispose()


async def wait_for_a_waiting_lock(database: Database) -> None:
    """Until a transaction waits for what another holds."""
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(10), database.unit_of_work(PLATFORM) as session:
        while not await session.scalar(query):  # noqa: ASYNC110  # PostgreSQL tells nobody that another waits
            await asyncio.sleep(0.01)


def role_urls(admin_url: URL) -> DatabaseURLs:
    return DatabaseURLs.for_roles(
        admin_url,
        app_password=PASSWORDS.app,
        platform_password=PASSWORDS.platform,
        steward_password=PASSWORDS.steward,
    )
