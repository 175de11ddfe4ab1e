"""How the gateway is put together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from bwenge.gateway.proxy import CheckToken, Proxy
from bwenge.gateway.routing import PublicRoute, RouteTable
from bwenge.gateway.services import Service
from bwenge.gateway.settings import GatewaySettings
from bwenge.kit.http.system import ReadinessCheck


@dataclass(frozen=True, slots=True)
class GatewayFeature:
    """The gateway, ready to be served by `downstream.GatewayHTTPProtocol`.

    Attributes:
        readiness_checks: By a service's name.
    """

    app: ASGIApp
    readiness_checks: Mapping[str, ReadinessCheck]
    services: Mapping[str, Service]

    async def close(self) -> None:
        """End connections to services that are not in use; those in use end with their exchange."""
        for service in self.services.values():
            service.pool.close()


def build(
    routes: Iterable[PublicRoute],
    service_urls: Mapping[str, str],
    *,
    check_token: CheckToken,
    key_prefix: str,
    fallback: ASGIApp,
    settings: GatewaySettings | None = None,
) -> GatewayFeature:
    """Raises ValueError for a route of a service that has no address, and for an address that is none.

    Args:
        routes: The table, in the services' own order.
        service_urls: `http://host:port` by a service's name.
        check_token: Asked for every token that is no API key's.
        key_prefix: What API keys begin with.
        fallback: Answers what no route knows: the gateway's own pages, and 404.
        settings: The defaults where it is None.
    """
    settings = settings or GatewaySettings()
    routes = tuple(routes)
    unknown = {route.service for route in routes} - service_urls.keys()
    if unknown:
        raise ValueError(f"no address is given for {', '.join(sorted(unknown))}")
    services = {name: Service(name, url, settings) for name, url in service_urls.items()}
    proxy = Proxy(
        RouteTable(routes),
        services,
        check_token=check_token,
        key_prefix=key_prefix,
        fallback=fallback,
        settings=settings,
    )
    checks: dict[str, ReadinessCheck] = {name: service.check_ready for name, service in services.items()}
    return GatewayFeature(proxy, checks, services)
