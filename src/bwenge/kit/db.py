"""Units of work on PostgreSQL: one request, task or socket message is one transaction.

Three roles serve. `bwenge_app` sees the rows of the one tenant named in the setting `bwenge.org_id` and nothing without
it. `bwenge_platform` is for what has no tenant yet or spans them (login, job claims). `bwenge_steward` reads and
deletes the rows of the one tenant that is named, in all of its tables, to hand it over whole or to erase it. Row-level
security in the database enforces each; see `bwenge.migrations.access`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import DateTime, MetaData, Uuid, func, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import AsyncAdaptedQueuePool

from bwenge.kit.errors import Unavailable

_log = structlog.get_logger(__name__)

APP_ROLE: Final = "bwenge_app"
PLATFORM_ROLE: Final = "bwenge_platform"
STEWARD_ROLE: Final = "bwenge_steward"
OWNER_ROLE: Final = "bwenge_owner"
TENANT_SETTING: Final = "bwenge.org_id"

POOL_SIZE: Final = 5
STEWARD_POOL_SIZE: Final = 2
"""Exports and erasures are few, and may wait for each other."""

_SERVER_OPTIONS = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"

_AWAY: Final = ("08", "53", "57P", "40P01")
"""How SQLSTATEs begin: connection exception, insufficient resources, the server's own shutdown or recovery, and a
deadlock, of which the transaction is the victim that lets the others go on."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL is away, has no connection or room to spare, or ended the transaction for others to go on.

    The same work may succeed a little later.
    """

    title = "The database does not answer at the moment"


class Platform(Enum):
    """The scope of a unit of work that belongs to no single tenant."""

    PLATFORM = "platform"


PLATFORM: Final = Platform.PLATFORM


@dataclass(frozen=True, slots=True)
class WholeTenant:
    """The scope of a unit of work that reads or deletes any row of one tenant, also what the application may not."""

    org_id: UUID


Scope = UUID | Platform | WholeTenant


def role_of(scope: Scope) -> str:
    """Who logs in for a unit of work of this scope."""
    if isinstance(scope, WholeTenant):
        return STEWARD_ROLE
    return PLATFORM_ROLE if scope is PLATFORM else APP_ROLE


def tenant_of(scope: Scope) -> UUID | None:
    """The tenant that a unit of work of this scope names."""
    if isinstance(scope, WholeTenant):
        return scope.org_id
    return scope if isinstance(scope, UUID) else None


class Base(DeclarativeBase):
    """Every table of the platform; constraint names are stated so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy declares it so
        datetime: DateTime(timezone=True),
        UUID: Uuid(as_uuid=True),
    }


class Timestamped:
    """Times in UTC; `updated_at` is kept by a trigger."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=900)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=901)


@dataclass(frozen=True)
class DatabaseURLs:
    """Where each role logs in; passwords are part of the URLs and hidden in their repr."""

    app: URL
    platform: URL
    steward: URL

    @classmethod
    def for_roles(
        cls, server: str | URL, *, app_password: str, platform_password: str, steward_password: str
    ) -> "DatabaseURLs":
        """Take host and database from `server`, and put each serving role's own credentials in."""
        base = make_url(server)
        return cls(
            app=base.set(username=APP_ROLE, password=app_password),
            platform=base.set(username=PLATFORM_ROLE, password=platform_password),
            steward=base.set(username=STEWARD_ROLE, password=steward_password),
        )


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Connections per role that one process may open, each of them when it is first wanted.

    The sum of the pools, and of what else connects, is tested against the embedded server for both topologies.
    """

    app: int = POOL_SIZE
    platform: int = POOL_SIZE
    steward: int = STEWARD_POOL_SIZE

    @property
    def total(self) -> int:
        return self.app + self.platform + self.steward


DEFAULT_POOLS: Final = PoolSizes()
SINGLE: Final = PoolSizes(app=1, platform=1, steward=1)
"""For commands, which do one thing after another."""


class Database:
    """The serving roles' connection pools, and the only place that commits."""

    def __init__(self, urls: DatabaseURLs, *, pools: PoolSizes = DEFAULT_POOLS) -> None:
        self.urls = urls
        self._app = _engine(urls.app, pools.app)
        self._platform = _engine(urls.platform, pools.platform)
        self._steward = _engine(urls.steward, pools.steward)

    @asynccontextmanager
    async def unit_of_work(self, scope: Scope, *, snapshot: bool = False) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends well, rolled back when it raises.

        Args:
            scope: The tenant whose rows may be seen, `PLATFORM`, or a `WholeTenant`.
            snapshot: All statements see the one moment at which the first began, and none may write.

        Raises:
            DatabaseUnavailable: Whether what was asked for is done is unknown where the commit failed.
        """
        engine = self._engine_of(scope)
        if snapshot:
            engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        org_id = tenant_of(scope)
        try:
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                if org_id is not None:
                    await set_tenant(session, org_id)
                yield session
        except SQLAlchemyError as error:
            if not _is_away(error):
                raise
            _log.warning("database_unavailable", reason=str(getattr(error, "orig", error)))
            raise DatabaseUnavailable from error

    async def ping(self) -> None:
        """Raise what the driver raises when PostgreSQL does not answer."""
        async with self._platform.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def dispose(self) -> None:
        await self._app.dispose()
        await self._platform.dispose()
        await self._steward.dispose()

    def _engine_of(self, scope: Scope) -> AsyncEngine:
        if isinstance(scope, WholeTenant):
            return self._steward
        return self._platform if scope is PLATFORM else self._app


@asynccontextmanager
async def savepoint(session: AsyncSession) -> AsyncIterator[None]:
    """A part of a unit of work that may fail alone: what it raises undoes the part and leaves the rest usable."""
    async with session.begin_nested():
        yield


async def set_tenant(session: AsyncSession, org_id: UUID) -> None:
    """Name the tenant for the rest of this transaction only, so that a pooled connection never carries it over."""
    await session.execute(
        text("SELECT set_config(:setting, :org_id, true)"), {"setting": TENANT_SETTING, "org_id": str(org_id)}
    )


def _is_away(error: SQLAlchemyError) -> bool:
    if isinstance(error, PoolExhausted | InterfaceError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    # A failure to connect, and a connection that broke, have no SQLSTATE: no server is left to give one.
    state = getattr(error.orig, "sqlstate", None)
    is_operational = isinstance(error, OperationalError) and (state is None or state.startswith(_AWAY))
    return error.connection_invalidated or is_operational


def _engine(url: URL, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"options": _SERVER_OPTIONS, "application_name": "bwenge"},
    )
