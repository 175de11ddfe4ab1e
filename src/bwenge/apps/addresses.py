"""The forms of the addresses that settings name: of the platform, of other pages, of proxies."""

import re
from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

ANY: Final = "*"

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_OWN_PORTS: Final = {"http": ":80", "https": ":443"}


def normalize_address(address: str) -> str:
    """Of the platform, its scheme in small letters. Raises ValueError where people cannot open it."""
    refusal = ValueError("needs the form https://school.example")
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise refusal from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in address:
        raise refusal
    return parts.geturl()


def normalize_origin(origin: str) -> str:
    """As browsers write it in `Origin` (RFC 6454), or `*`. Raises ValueError for what would never match one."""
    normal = origin.lower()
    if normal == ANY:
        return normal
    own_port = _OWN_PORTS.get(normal.partition("://")[0])
    if not _ORIGIN.fullmatch(normal) or (own_port is not None and normal.endswith(own_port)):
        raise ValueError(
            "each needs the form https://school.example or https://school.example:8443: no path, no slash at its end,"
            " no port that is the scheme's own"
        )
    return normal


def require_proxy(proxy: str) -> None:
    """An IP address, a network by its first address, or `*`. Raises ValueError otherwise."""
    if proxy != ANY:
        try:
            ip_network(proxy)
        except ValueError as error:
            raise ValueError(
                f"each needs the form 10.0.0.7 or 10.0.0.0/24, an IP address or a network: {error}"
            ) from None


def is_everybody(proxy: str) -> bool:
    """Whether a value that `require_proxy` let pass stands for every address."""
    return proxy == ANY or ip_network(proxy).prefixlen == 0
