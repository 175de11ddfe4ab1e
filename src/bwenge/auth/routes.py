from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bwenge.auth.errors import UnsupportedRegistration
from bwenge.auth.schemas import (
    JsonWebKeySet,
    LoginBody,
    LoginResponse,
    LogoutBody,
    ProfileBody,
    RefreshBody,
    RegistrationBody,
    UserResponse,
)
from bwenge.auth.service import AuthService, Login
from bwenge.auth.tokens import TokenKeys
from bwenge.kit.http.dependencies import TenantSession, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal

router = APIRouter(tags=["auth"])

Service = Annotated[AuthService, Depends(provided(AuthService))]
Keys = Annotated[TokenKeys, Depends(provided(TokenKeys))]
# Unlike `CurrentPrincipal`, a missing or expired access token is no refusal here: a refresh token may stand for it.
MaybeBearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, description="An access token from POST /auth/login")),
]


@router.post("/auth/register", operation_id="register", status_code=201, responses=problems(409, 422))
async def register(body: RegistrationBody, response: Response, service: Service) -> LoginResponse:
    """Open an account. With `org_name`, a new organisation on the free plan, and the account is its owner."""
    if body.org_name is None or body.email is None:
        field = "join_token" if body.invite_token is None else "invite_token"
        message = UnsupportedRegistration.title
        raise UnsupportedRegistration(errors=[{"field": field, "code": "unsupported", "message": message}])
    login = await service.register(
        org_name=body.org_name, name=body.name, email=body.email, password=body.password, username=body.username
    )
    return _secret(login, response)


@router.post("/auth/login", operation_id="logIn", responses=problems(401, 422))
async def log_in(body: LoginBody, response: Response, service: Service) -> LoginResponse:
    """Exchange an account's password for an access token and a refresh token."""
    return _secret(await service.log_in(body.account(), body.password), response)


@router.post("/auth/refresh", operation_id="refresh", responses=problems(401, 422))
async def refresh(body: RefreshBody, response: Response, service: Service) -> LoginResponse:
    """Exchange a refresh token for the next pair of tokens.

    The given token works for a few seconds more, in case this answer gets lost; used later still, it ends the session.
    """
    return _secret(await service.refresh(body.refresh_token), response)


@router.post("/auth/logout", operation_id="logOut", status_code=204, responses=problems(401, 422))
async def log_out(service: Service, credentials: MaybeBearer, body: LogoutBody | None = None) -> None:
    """End a session: the refresh token's, where one is given, else the access token's own."""
    await service.log_out(
        access_token=None if credentials is None else credentials.credentials,
        refresh_token=None if body is None else body.refresh_token,
    )


@router.get("/users/me", operation_id="getProfile", responses=problems(401))
async def get_profile(principal: CurrentPrincipal, session: TenantSession, service: Service) -> UserResponse:
    """The member who is calling."""
    return UserResponse.model_validate(await service.profile(session, principal))


@router.patch("/users/me", operation_id="updateProfile", responses=problems(401, 422))
async def update_profile(
    body: ProfileBody, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> UserResponse:
    """Change one's own name or language; a field that is null or left out stays."""
    changes = body.model_dump(exclude_none=True)
    return UserResponse.model_validate(await service.update_profile(session, principal, changes))


@router.get("/.well-known/jwks.json", operation_id="getJwks")
async def get_jwks(response: Response, keys: Keys) -> JsonWebKeySet:
    """The public keys that access tokens are signed with, as a JSON Web Key Set (RFC 7517)."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return JsonWebKeySet.model_validate(keys.jwks())


def _secret(login: Login, response: Response) -> LoginResponse:
    """RFC 6749, section 5.1: an answer that holds tokens is never stored by a cache."""
    response.headers["Cache-Control"] = "no-store"
    return LoginResponse.model_validate(login)
