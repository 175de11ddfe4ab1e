from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bwenge.auth.joining import Joining
from bwenge.auth.opaque_tokens import hash_token
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
from bwenge.auth.session_routes import Answer
from bwenge.auth.tokens import TokenKeys
from bwenge.kit.http.dependencies import CallerSession, provided
from bwenge.kit.http.idempotency import CurrentKey
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import CurrentRateLimiter, client_network, limited
from bwenge.kit.http.security import CurrentCaller, anyone, holders, signed_in
from bwenge.kit.idempotency.once import Once
from bwenge.kit.identity import Principal

router = APIRouter(tags=["auth"])

limit_of_me: Final = limited("users.me", "100/minute")

Service = Annotated[AuthService, Depends(provided(AuthService))]
JoiningService = Annotated[Joining, Depends(provided(Joining))]
Keys = Annotated[TokenKeys, Depends(provided(TokenKeys))]
# Unlike `CurrentPrincipal`, a missing or expired access token is no refusal here: a refresh token may stand for it.
MaybeBearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, description="An access token from POST /auth/login")),
]


@router.post(
    "/auth/register",
    operation_id="register",
    status_code=201,
    dependencies=[anyone(), limited("auth.register_address", "300/minute", by="address")],
    responses=problems(401, 402, 403, 409, 422, 429),
)
async def register(
    body: RegistrationBody,
    request: Request,
    answer: Answer,
    service: Service,
    joining: JoiningService,
    limiter: CurrentRateLimiter,
    key: CurrentKey,
) -> LoginResponse:
    """Open an account: with `org_name`, as owner of a new organisation on the free plan; with a token, in one there is.

    An invitation gives its role and email address. A join link gives the role `user`, and its class where it names one.
    """
    once: Once[Login] = await key.once(answer.with_tokens)
    if body.org_name is not None and body.email is not None:
        await limiter.hit("auth.register", "5/minute", f"address:{client_network(request)}")
        login = await service.register(
            org_name=body.org_name,
            name=body.name,
            email=body.email,
            password=body.password,
            username=body.username,
            once=once,
        )
        return answer.with_tokens(login)
    token = body.invite_token or body.join_token or ""
    await limiter.hit("auth.register_by_token", "100/minute", f"token:{hash_token(token).hex()}")
    open_account = joining.join if body.invite_token is None else joining.accept_invitation
    login = await open_account(
        token, name=body.name, password=body.password, email=body.email, username=body.username, once=once
    )
    return answer.with_tokens(login)


@router.post(
    "/auth/login",
    operation_id="logIn",
    dependencies=[anyone(), limited("auth.login", "300/minute", by="address")],
    responses=problems(401, 403, 422, 429),
)
async def log_in(
    body: LoginBody, request: Request, answer: Answer, service: Service, limiter: CurrentRateLimiter
) -> LoginResponse:
    """Exchange an account's password for an access token and a refresh token.

    After five wrong passwords for an account, the next attempt from the same address has to wait, longer each time.
    """
    network = client_network(request)
    account = service.account_mark(body.account())
    await limiter.hit("auth.login_account", "10/minute", f"address:{network}", f"account:{account}")
    return answer.with_tokens(await service.log_in(body.account(), body.password, network=network))


@router.post(
    "/auth/refresh",
    operation_id="refresh",
    dependencies=[holders(), limited("auth.refresh_address", "600/minute", by="address")],
    responses=problems(401, 403, 422, 429),
)
async def refresh(
    answer: Answer, service: Service, limiter: CurrentRateLimiter, body: RefreshBody | None = None
) -> LoginResponse:
    """Exchange a refresh token for the next pair of tokens.

    The given token works for a few seconds more, in case this answer gets lost; used later still, it ends the session.
    """
    token = answer.required_token(None if body is None else body.refresh_token)
    user_id = await service.holder(token)
    if user_id is not None:
        await limiter.hit("auth.refresh", "20/minute", f"user:{user_id}")
    return answer.with_tokens(await service.refresh(token))


@router.post(
    "/auth/logout",
    operation_id="logOut",
    status_code=204,
    dependencies=[holders(), limited("auth.logout_address", "600/minute", by="address")],
    responses=problems(401, 403, 422, 429),
)
async def log_out(answer: Answer, service: Service, credentials: MaybeBearer, body: LogoutBody | None = None) -> None:
    """End a session: the refresh token's, where one is given, else the access token's own."""
    await service.log_out(
        access_token=None if credentials is None else credentials.credentials,
        refresh_token=answer.presented_token(None if body is None else body.refresh_token),
    )
    answer.end_session()


@router.get(
    "/users/me",
    operation_id="getProfile",
    dependencies=[signed_in(by_key=True, by_confined_key=True), limit_of_me],
    responses=problems(401, 429),
)
async def get_profile(caller: CurrentCaller, session: CallerSession, service: Service) -> UserResponse:
    """Who is calling; of an API key, the member who made it, in the key's role and without their addresses."""
    profile = UserResponse.model_validate(await service.profile(session, caller))
    if isinstance(caller, Principal) and caller.key_id is not None:
        # A key may stand in a web page.
        return profile.model_copy(update={"role": caller.role, "email": None, "username": None})
    return profile


@router.patch(
    "/users/me",
    operation_id="updateProfile",
    dependencies=[signed_in(), limit_of_me],
    responses=problems(401, 403, 422, 429),
)
async def update_profile(
    body: ProfileBody, caller: CurrentCaller, session: CallerSession, service: Service
) -> UserResponse:
    """Change one's own name or language; a field that is null or left out stays."""
    changes = body.model_dump(exclude_none=True)
    return UserResponse.model_validate(await service.update_profile(session, caller, changes))


@router.get("/.well-known/jwks.json", operation_id="getJwks", dependencies=[anyone()])
async def get_jwks(response: Response, keys: Keys) -> JsonWebKeySet:
    """The public keys that access tokens are signed with, as a JSON Web Key Set (RFC 7517)."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return JsonWebKeySet.model_validate(keys.jwks())
