"""Who may call a route, as data.

Each route declares it once: that declaration is checked, the OpenAPI document shows it, and the tests over the route
table read it.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from bwenge.kit.errors import Forbidden, Unauthenticated
from bwenge.kit.identity import (
    Caller,
    KeyVerifier,
    Operator,
    OperatorDenials,
    Principal,
    Role,
    TokenVerifier,
    member,
)

_bearer = HTTPBearer(auto_error=False, description="An access token from POST /auth/login, or an API key")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a route.

    Attributes:
        callers: `anyone` needs no token; `holder` has proof of another kind, which the route checks itself (a refresh
            token, a signed address); `signed_in` is any member and any operator; `service` is another of the platform's
            own processes.
        least: The least role of members.
        by_key: Whether an API key may call it for its member.
        by_confined_key: Whether one may also that is confined to some things. Such a route asks `Principal.may_use` of
            whatever it shows or changes, or has nothing of that kind.
    """

    callers: Literal["anyone", "holder", "signed_in", "members", "operators", "service"]
    least: Role = Role.USER
    by_key: bool = True
    by_confined_key: bool = False

    @property
    def refusals(self) -> tuple[int, ...]:
        """The statuses of those who may not call."""
        return {"anyone": (), "holder": (401,), "service": (401,)}.get(self.callers, (401, 403))

    @property
    def needs_token(self) -> bool:
        """Whether nobody may call without an access token or an API key."""
        return self.callers in {"signed_in", "members", "operators"}

    def require_key_admitted(self, principal: Principal) -> None:
        """Raise `Forbidden` where the member speaks through an API key that may not call it."""
        if principal.key_id is not None and not self.by_key:
            raise Forbidden
        if principal.confined_to is not None and not self.by_confined_key:
            raise Forbidden("An API key that is confined is for nothing but what it is confined to")

    def __str__(self) -> str:
        if self.callers != "members":
            return {"signed_in": "any", "operators": "operator"}.get(self.callers, self.callers)
        least = "member" if self.least is Role.USER else self.least.value
        return least if self.least in {Role.USER, Role.OWNER} else f"{least}+"


async def identify(connection: HTTPConnection, token: str) -> Caller:
    """For whom an access token or an API key speaks. Raises `Unauthenticated`."""
    keys: KeyVerifier | None = getattr(connection.app.state, "key_verifier", None)
    if keys is not None and token.startswith(keys.prefix):
        return await keys.verify_key(token)
    verifier: TokenVerifier = connection.app.state.token_verifier
    return verifier.verify(token)


async def _optional_caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller | None:
    return None if credentials is None else await identify(request, credentials.credentials)


OptionalCaller = Annotated[Caller | None, Depends(_optional_caller)]


def _current_caller(caller: OptionalCaller) -> Caller:
    if caller is None:
        raise Unauthenticated
    return caller


CurrentCaller = Annotated[Caller, Depends(_current_caller)]


def _current_principal(caller: CurrentCaller) -> Principal:
    return member(caller)


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]


def _optional_principal(caller: OptionalCaller) -> Principal | None:
    return None if caller is None else member(caller)


OptionalPrincipal = Annotated[Principal | None, Depends(_optional_principal)]


def _current_operator(caller: CurrentCaller) -> Operator:
    if not isinstance(caller, Operator):
        raise Forbidden
    return caller


CurrentOperator = Annotated[Operator, Depends(_current_operator)]


def members(least: Role = Role.USER, *, by_key: bool = True, by_confined_key: bool = False) -> Any:
    """Members of an organisation from the role `least` on, by default also by a key that is not confined.

    The rest is refused with 403.
    """
    access = Access("members", least, by_key=by_key, by_confined_key=by_confined_key)

    def check(principal: CurrentPrincipal) -> None:
        if not principal.role.at_least(least):
            raise Forbidden
        access.require_key_admitted(principal)

    return declared(check, access)


def signed_in(*, by_key: bool = False, by_confined_key: bool = False) -> Any:
    """Every member and every operator; by default in person, without an API key."""
    access = Access("signed_in", by_key=by_key, by_confined_key=by_confined_key)

    def check(caller: CurrentCaller) -> None:
        if isinstance(caller, Principal):
            access.require_key_admitted(caller)

    return declared(check, access)


def operators() -> Any:
    """The platform's staff; a member's attempt is refused, and kept where `app.state.operator_denials` is set.

    It stands after the route's rate limit, which bounds how much is kept.
    """

    async def check(request: Request, caller: CurrentCaller) -> None:
        if isinstance(caller, Operator):
            return
        denials: OperatorDenials | None = getattr(request.app.state, "operator_denials", None)
        if denials is not None:
            await denials.record(caller, call=f"{request.method} {request.scope['route'].path}")
        raise Forbidden

    return declared(check, Access("operators", by_key=False))


def anyone() -> Any:
    """Everybody, without a token."""

    def check() -> None:
        """Nothing to check."""

    return declared(check, Access("anyone"))


def holders() -> Any:
    """Whoever holds a proof that the route itself checks: a refresh token, a signed address."""

    def check() -> None:
        """The route checks."""

    return declared(check, Access("holder"))


def declared_access(dependant: Dependant) -> list[Access]:
    """What a route declares; exactly one, or its tests fail."""
    return list(_declarations(dependant))


_ATTRIBUTE: Final = "access"


def declared(check: Callable[..., Awaitable[None] | None], access: Access) -> Any:
    """The dependency that runs `check`, and by which a route declares who may call it."""
    setattr(check, _ATTRIBUTE, access)
    return Depends(check)


def _declarations(dependant: Dependant) -> Iterator[Access]:
    access = getattr(dependant.call, _ATTRIBUTE, None)
    if isinstance(access, Access):
        yield access
    for inner in dependant.dependencies:
        yield from _declarations(inner)
