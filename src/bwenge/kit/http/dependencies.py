"""What routes ask for: the service they speak to, and the request's transaction."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from bwenge.kit.db import Database
from bwenge.kit.http.security import CurrentPrincipal

T = TypeVar("T")


def provide(app_state: object, *instances: object) -> None:
    """Make instances available to `provided` under their own classes."""
    registry: dict[type, object] = getattr(app_state, "provided", {})
    registry.update({type(instance): instance for instance in instances})
    app_state.provided = registry  # type: ignore[attr-defined]  # Starlette's state is an open namespace


def provided(cls: type[T]) -> Callable[[HTTPConnection], T]:
    """A dependency that yields the application's one instance of `cls`."""

    def get(connection: HTTPConnection) -> T:
        instance: T = connection.app.state.provided[cls]
        return instance

    return get


def _database(connection: HTTPConnection) -> Database:
    database: Database = connection.app.state.database
    return database


CurrentDatabase = Annotated[Database, Depends(_database)]


async def _tenant_session(principal: CurrentPrincipal, database: CurrentDatabase) -> AsyncIterator[AsyncSession]:
    async with database.unit_of_work(principal.org_id) as session:
        yield session


# The function scope commits before the response starts, so a failed commit is a failed request and never a kept 200.
TenantSession = Annotated[AsyncSession, Depends(_tenant_session, scope="function")]
