"""Rate limits of routes, as data: a route names its limits where it is declared, and the tests read them there."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from bwenge.kit.http.dependencies import provided
from bwenge.kit.http.security import OptionalCaller
from bwenge.kit.ratelimit import RateLimiter

_ATTRIBUTE: Final = "rate"
IPV6_NETWORK_BITS: Final = 64
"""Of an address: one subscriber has a whole network of them."""

CurrentRateLimiter = Annotated[RateLimiter, Depends(provided(RateLimiter))]


@dataclass(frozen=True, slots=True)
class Rate:
    """A documented limit.

    Attributes:
        name: Settings override it by this name (`BWENGE_RATE_LIMIT_<NAME>`, dots as underscores).
        rate: `10/minute`.
        by: Whose hits are counted together.
    """

    name: str
    rate: str
    by: Literal["user", "address"]


def limited(name: str, rate: str, *, by: Literal["user", "address"] = "user") -> Any:
    """A route dependency that counts the request, and refuses it with 429 where the window is full.

    A route without a token counts by address. It stands after the declaration of who may call, but before the one
    of operators.
    """
    declared = Rate(name, rate, by)

    async def by_address(connection: HTTPConnection, limiter: CurrentRateLimiter) -> None:
        await limiter.hit(name, rate, f"address:{client_network(connection)}")

    async def by_user(connection: HTTPConnection, caller: OptionalCaller, limiter: CurrentRateLimiter) -> None:
        whose = f"address:{client_network(connection)}" if caller is None else f"user:{caller.user_id}"
        await limiter.hit(name, rate, whose)

    # By address nobody is asked who they are: an expired token is no reason not to let them log in.
    check = by_address if by == "address" else by_user
    setattr(check, _ATTRIBUTE, declared)
    return Depends(check)


def client_network(connection: HTTPConnection) -> str:
    """Whose address the request came from, as the server knows it (behind trusted proxies, what they say)."""
    host = connection.client.host if connection.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((int(address), IPV6_NETWORK_BITS), strict=False))
    return str(address)


def declared_rates(dependant: Dependant) -> list[Rate]:
    """The limits that a route declares, in their order."""
    return list(_rates(dependant))


def _rates(dependant: Dependant) -> Iterator[Rate]:
    rate = getattr(dependant.call, _ATTRIBUTE, None)
    if isinstance(rate, Rate):
        yield rate
    for inner in dependant.dependencies:
        yield from _rates(inner)
