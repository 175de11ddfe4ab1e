"""The ASGI application that passes requests to services, and refuses at the edge what they would refuse."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from bwenge.gateway import metrics
from bwenge.gateway.downstream import DOWNSTREAM, GatewayCycle
from bwenge.gateway.errors import BodyTooLarge, BodyTooSlow, ServiceTimedOut, ServiceUnavailable
from bwenge.gateway.exchange import Exchange
from bwenge.gateway.fields import value_of
from bwenge.gateway.routing import PublicRoute, RouteTable
from bwenge.gateway.services import Service
from bwenge.gateway.settings import GatewaySettings
from bwenge.kit.errors import BwengeError, Unauthenticated
from bwenge.kit.http.problems import problem_response, status_response

CheckToken = Callable[[str], None]
"""Raises `Unauthenticated` for what is no access token; returns where it cannot tell, and the service decides."""

_OUTCOMES: Final[Mapping[type[BwengeError], str]] = {
    ServiceUnavailable: "unavailable",
    ServiceTimedOut: "timed_out",
}


class Proxy:
    """Passes on what the table knows, and everything else to `fallback`.

    Served by `GatewayHTTPProtocol`, behind `RequestContext`, whose request id the services get.

    Args:
        key_prefix: What API keys begin with; only the service can check one.
    """

    def __init__(
        self,
        table: RouteTable,
        services: Mapping[str, Service],
        *,
        check_token: CheckToken,
        key_prefix: str,
        fallback: ASGIApp,
        settings: GatewaySettings,
    ) -> None:
        self._table = table
        self._services = services
        self._check_token = check_token
        self._key_prefix = key_prefix
        self._fallback = fallback
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._table.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._fallback(scope, receive, send)
            return
        scope["route"] = route
        request: GatewayCycle = scope["extensions"][DOWNSTREAM]
        request.wants_tunnel = request.wants_tunnel and route.is_socket
        service = self._services[route.service]
        try:
            self._require_size(scope, route)
            if route.needs_token and route.admits(scope["method"]):
                self._require_token(scope, may_be_in_query=request.wants_tunnel)
            exchange = Exchange(request, service, route=route, settings=self._settings)
            await exchange.run(receive, send)
        except BwengeError as refusal:
            metrics.REQUESTS.labels(service.name, _OUTCOMES.get(type(refusal), "refused")).inc()
            await problem_response(refusal)(scope, receive, send)
        except BodyTooSlow:
            metrics.REQUESTS.labels(service.name, "refused").inc()
            response = status_response(HTTPStatus.REQUEST_TIMEOUT, "The request's body did not come in time")
            await response(scope, receive, send)

    @staticmethod
    def _require_size(scope: Scope, route: PublicRoute) -> None:
        declared = value_of(scope["headers"], b"content-length")
        if declared is not None and int(declared) > route.max_body_bytes:
            raise BodyTooLarge

    def _require_token(self, scope: Scope, *, may_be_in_query: bool) -> None:
        authorization = value_of(scope["headers"], b"authorization") or b""
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if not token and may_be_in_query:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            token = query.get("token", [""])[0]
        if not token:
            raise Unauthenticated
        if not token.startswith(self._key_prefix):
            self._check_token(token)
