"""What routes ask about the caller: a principal read from the access token alone, and the least role that may call."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bwenge.kit.errors import Forbidden, Unauthenticated
from bwenge.kit.identity import Principal, Role, TokenVerifier

_bearer = HTTPBearer(auto_error=False, description="An access token from POST /auth/login")


def _optional_principal(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal | None:
    if credentials is None:
        return None
    verifier: TokenVerifier = request.app.state.token_verifier
    return verifier.verify(credentials.credentials)


OptionalPrincipal = Annotated[Principal | None, Depends(_optional_principal)]


def _current_principal(principal: OptionalPrincipal) -> Principal:
    if principal is None:
        raise Unauthenticated
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_current_principal)]


def at_least(role: Role) -> Any:
    """A route dependency that refuses principals below `role` with 403."""

    def check(principal: CurrentPrincipal) -> None:
        if not principal.role.at_least(role):
            raise Forbidden

    check.required_role = role  # type: ignore[attr-defined]  # read by the tests over the route table
    return Depends(check)
