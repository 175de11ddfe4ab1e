"""Which service serves what, and where: the one table behind the web applications, the gateway and deployments."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter

from bwenge.auth import custody_routes
from bwenge.auth import wiring as auth
from bwenge.chat import routes as chat_routes
from bwenge.kit.db import POOL_SIZE, PoolSizes
from bwenge.kit.http import job_routes
from bwenge.knowledge import wiring as knowledge
from bwenge.payments import routes as payments_routes
from bwenge.persona import answer_routes, internal_routes
from bwenge.persona import routes as persona_routes

GATEWAY: Final = "gateway"

_QUIET: Final = PoolSizes(app=2, platform=2, steward=1)


@dataclass(frozen=True)
class Service:
    """One process of the split topology that serves features.

    Attributes:
        name: As in `bwenge serve NAME`, in addresses of the platform's own network and in logs.
        port_offset: Above the gateway's port.
        routers: What it serves to the public, through the gateway.
        internal_routers: What other services alone may call; the gateway knows none of it.
        embeds: Whether it loads the embedding model.
        pools: Connections to PostgreSQL that one process may open, by role.
    """

    name: str
    port_offset: int
    routers: tuple[APIRouter, ...] = ()
    internal_routers: tuple[APIRouter, ...] = ()
    embeds: bool = False
    pools: PoolSizes = _QUIET


SERVICES: Final[Mapping[str, Service]] = MappingProxyType(
    {
        service.name: service
        for service in (
            Service(
                "auth",
                1,
                (*auth.ROUTERS, custody_routes.router, job_routes.router),
                pools=PoolSizes(app=POOL_SIZE, platform=POOL_SIZE, steward=1),
            ),
            Service("ingest", 2, knowledge.ROUTERS, embeds=True, pools=PoolSizes(app=POOL_SIZE, platform=2, steward=1)),
            Service(
                "persona",
                3,
                (persona_routes.router, answer_routes.router),
                internal_routers=(internal_routes.router,),
                embeds=True,
                pools=PoolSizes(app=POOL_SIZE, platform=2, steward=1),
            ),
            Service("chat", 4, (chat_routes.router,), pools=PoolSizes(app=POOL_SIZE, platform=2, steward=1)),
            Service("3d", 5),
            Service("analytics", 6),
            Service("payments", 7, (payments_routes.router,)),
        )
    }
)

PUBLIC_ROUTERS: Final = tuple(router for service in SERVICES.values() for router in service.routers)
"""Every operation of the public API, whichever process serves it."""


def port_of(name: str, *, base_port: int) -> int:
    """Where a service listens, or the gateway itself."""
    return base_port if name == GATEWAY else base_port + SERVICES[name].port_offset
