"""The web application: routers of all features, the platform's middleware, one OpenAPI document."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.types import Lifespan

from bwenge import __version__
from bwenge.apps import front_page
from bwenge.apps.addresses import ANY
from bwenge.apps.composition import Platform
from bwenge.apps.settings import Settings
from bwenge.apps.topology import PUBLIC_ROUTERS, Service
from bwenge.kit.http import system
from bwenge.kit.http.dependencies import provide
from bwenge.kit.http.flood import FloodGuard
from bwenge.kit.http.headers import SecurityHeaders
from bwenge.kit.http.hosts import TrustedHosts
from bwenge.kit.http.idempotency import REPLAYED, install_replays
from bwenge.kit.http.limits import BodyLimit
from bwenge.kit.http.middleware import RequestContext
from bwenge.kit.http.problems import Problem, install_problem_handlers, problems
from bwenge.kit.http.rates import declared_rates
from bwenge.kit.http.security import declared_access
from bwenge.kit.http.system import ReadinessCheck

STREAMED: Final = frozenset({"/knowledge/upload"})
ALLOWED_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Range",
    "X-Bwenge-Cookie",
    "X-Request-Id",
)
"""What a page of another origin may send, beside what browsers always allow."""


DOCS_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com;"
    " style-src 'self' https://cdn.jsdelivr.net; script-src 'unsafe-inline' https://cdn.jsdelivr.net;"
    " base-uri 'none'; frame-ancestors 'none'"
)
"""The documentation's viewer, which FastAPI loads from where it is published."""


def create_app(settings: Settings, platform: Platform) -> FastAPI:
    """The whole platform as one application."""
    app = documented_app((*PUBLIC_ROUTERS, front_page.router), lifespan=platform.running)
    _serve_features(app, platform, readiness_checks=platform.readiness_checks)
    app.add_middleware(BodyLimit, streamed=STREAMED)
    install_edge(app, settings)
    return app


def create_service_app(platform: Platform, service: Service, *, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """One service behind the gateway."""
    app = documented_app((*service.routers, *service.internal_routers), lifespan=lifespan)
    _serve_features(app, platform, readiness_checks={"postgresql": platform.resources.database.ping})
    app.add_middleware(BodyLimit, streamed=STREAMED)
    _add_outermost(app, hosts=())
    return app


def documented_app(routers: Iterable[APIRouter], *, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Routes with their refusals and their OpenAPI document, and those that every process has."""
    app = FastAPI(
        title="Bwenge OS",
        summary="AI personas that teach from a teacher's own material, with citations that open the right page",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_problem_handlers(app)
    install_replays(app)
    for router in (*routers, system.router):
        app.include_router(router)
    app.openapi = _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    return app


def _serve_features(app: FastAPI, platform: Platform, *, readiness_checks: Mapping[str, ReadinessCheck]) -> None:
    """What the routes ask their application for."""
    app.state.database = platform.resources.database
    app.state.token_verifier = platform.token_verifier
    app.state.key_verifier = platform.auth.api_keys
    app.state.operator_denials = platform.auth.operators
    app.state.membership = platform.auth.service
    app.state.readiness_checks = readiness_checks
    app.state.spool = platform.spool
    provide(app.state, *platform.provided)


def install_edge(app: FastAPI, settings: Settings) -> None:
    """The middleware of the process that the world speaks to; the last added is the outermost."""
    if settings.rate_limits:
        per_minute = settings.flood_per_minute
        # Ten seconds of it at once: a class that opens its books.
        app.add_middleware(FloodGuard, per_minute=per_minute, burst=max(1, per_minute // 6))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            # The cookie of a browser's session; where every origin may call, none sends it along.
            allow_credentials=ANY not in settings.cors_origins,
            allow_methods=["*"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=[
                "X-Request-Id",
                "Retry-After",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "Content-Range",
                "ETag",
                REPLAYED,
            ],
        )
    _add_outermost(app, hosts=settings.trusted_hosts)


def _add_outermost(app: FastAPI, *, hosts: Collection[str]) -> None:
    """Every answer, a refusal too, has a request id."""
    app.add_middleware(SecurityHeaders, own_policies={"/docs": DOCS_POLICY, "/docs/oauth2-redirect": DOCS_POLICY})
    if hosts:
        app.add_middleware(TrustedHosts, hosts=hosts)
    app.add_middleware(RequestContext)


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def document() -> dict[str, Any]:
        """FastAPI's document with the one schema of refusals, in place of its own validation errors."""
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            _show_access(app, schema["paths"])
            for operations in schema["paths"].values():
                for operation in operations.values():
                    _drop_default_validation_error(operation)
            app.openapi_schema = schema
        return app.openapi_schema

    return document


def _show_access(app: FastAPI, paths: dict[str, Any]) -> None:
    """What routes declare: who may call, in the contract's words, how often, and how others are refused."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            [access] = declared_access(route.dependant)
            rates = declared_rates(route.dependant)
            refusals = [*access.refusals, *([429] if rates else [])]
            for method in context.methods or ():
                operation = paths[context.path or ""][method.lower()]
                operation["x-bwenge-access"] = str(access)
                if rates:
                    operation["x-bwenge-rates"] = {rate.name: f"{rate.rate} by {rate.by}" for rate in rates}
                for status, answer in problems(*refusals).items():
                    operation["responses"].setdefault(str(status), answer)


def _drop_default_validation_error(operation: dict[str, Any]) -> None:
    answer = operation["responses"].get("422", {})
    if "HTTPValidationError" in str(answer.get("content", {})):
        operation["responses"]["422"] = {
            "description": "Unprocessable Entity",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
