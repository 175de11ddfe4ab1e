"""A feature's routes as an application of their own, and a client that speaks to it without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from httpx2 import ASGITransport, AsyncClient, Response
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import Database
from bwenge.kit.http.dependencies import provide
from bwenge.kit.http.idempotency import install_replays
from bwenge.kit.http.middleware import RequestContext
from bwenge.kit.http.problems import install_problem_handlers
from bwenge.kit.idempotency.answers import KeptAnswers
from bwenge.kit.identity import Membership, Principal, TokenVerifier
from bwenge.kit.ratelimit import RateLimiter


class EverybodyIsActive:
    """Of features whose routes are tried without the members' own."""

    async def require_active(self, session: AsyncSession, principal: Principal) -> None:
        """Nobody was deactivated."""


def feature_app(
    *routers: APIRouter,
    database: Database,
    token_verifier: TokenVerifier,
    services: list[Any],
    membership: Membership | None = None,
) -> FastAPI:
    """Without rate limits, which tests of their own try."""
    app = FastAPI()
    install_problem_handlers(app)
    install_replays(app)
    app.add_middleware(RequestContext)
    app.state.database = database
    app.state.token_verifier = token_verifier
    app.state.membership = membership or EverybodyIsActive()
    provide(app.state, RateLimiter(is_on=False), KeptAnswers(bytes(32)), *services)
    for router in routers:
        app.include_router(router)
    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """An exception that nobody handles is answered with 500, as in service, and stands in the captured log."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://bwenge.test") as client:
        yield client


def code_of(response: Response) -> tuple[int, str]:
    """The status and the problem's code of a refusal."""
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
