"""What routes ask for: the service they speak to, and the request's transaction."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import Depends, Path
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import NotFound
from bwenge.kit.http.security import CurrentCaller, CurrentOperator, CurrentPrincipal
from bwenge.kit.identity import Caller, Membership, Operator, Principal

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


def _membership(connection: HTTPConnection) -> Membership:
    membership: Membership = connection.app.state.membership
    return membership


CurrentMembership = Annotated[Membership, Depends(_membership)]


@asynccontextmanager
async def _work_of(caller: Caller, database: Database, membership: Membership) -> AsyncIterator[AsyncSession]:
    """A transaction in the caller's tenant, or the platform's for an operator, once they are found to be active."""
    if isinstance(caller, Operator):
        async with database.unit_of_work(PLATFORM) as session:
            await membership.require_active_operator(session, caller)
            yield session
    else:
        async with database.unit_of_work(caller.org_id) as session:
            await membership.require_active(session, caller)
            yield session


async def _tenant_session(
    principal: CurrentPrincipal, database: CurrentDatabase, membership: CurrentMembership
) -> AsyncIterator[AsyncSession]:
    async with _work_of(principal, database, membership) as session:
        yield session


# The function scope commits before the response starts, so a failed commit is a failed request and never a kept 200.
TenantSession = Annotated[AsyncSession, Depends(_tenant_session, scope="function")]
"""The request's transaction, of a member who was active when it began."""


async def _caller_session(
    caller: CurrentCaller, database: CurrentDatabase, membership: CurrentMembership
) -> AsyncIterator[AsyncSession]:
    async with _work_of(caller, database, membership) as session:
        yield session


CallerSession = Annotated[AsyncSession, Depends(_caller_session, scope="function")]
"""As `TenantSession`, and the platform's for an operator, who was active when it began."""


async def _active_principal(
    principal: CurrentPrincipal, database: CurrentDatabase, membership: CurrentMembership
) -> Principal:
    async with _work_of(principal, database, membership):
        return principal


ActivePrincipal = Annotated[Principal, Depends(_active_principal)]
"""For routes whose use case opens its own units of work: the member was active when the request came."""


async def _active_caller(caller: CurrentCaller, database: CurrentDatabase, membership: CurrentMembership) -> Caller:
    async with _work_of(caller, database, membership):
        return caller


ActiveCaller = Annotated[Caller, Depends(_active_caller)]
"""As `ActivePrincipal`, of members and operators."""


async def _active_operator(
    operator: CurrentOperator, database: CurrentDatabase, membership: CurrentMembership
) -> Operator:
    async with _work_of(operator, database, membership):
        return operator


ActiveOperator = Annotated[Operator, Depends(_active_operator)]
"""For every route of operators: the operator was active when the request came."""


def _own_tenant(org_id: Annotated[UUID, Path()], principal: CurrentPrincipal) -> UUID:
    if org_id != principal.org_id:
        raise NotFound
    return org_id


OwnTenant = Annotated[UUID, Depends(_own_tenant)]
"""The `org_id` of a path, which is the caller's own; every other one is as unknown."""

own_tenant: Final[Any] = Depends(_own_tenant)
"""The same, for a route that needs no more than the check; it stands after the declaration of who may call."""
