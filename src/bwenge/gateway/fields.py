"""Header fields on their way: what belongs to one connection stays there, and only the gateway says who called."""

from collections.abc import Iterable
from typing import Final

Fields = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110, section 7.6.1, and those that RFC 2616 named beside them."""

NEVER_NAMED: Final = frozenset({b"content-length", b"host"})
"""What a `Connection` field cannot take away: without them a message would be read otherwise than it is sent."""

NO_TRAILERS: Final = HOP_BY_HOP | NEVER_NAMED | {b"trailer", b"content-encoding", b"content-range", b"content-type"}

_SAID_BY_THE_GATEWAY: Final = frozenset({b"expect", b"forwarded", b"x-real-ip", b"x-request-id"})
VIA: Final = b"1.1 bwenge"
UPGRADE: Final[Fields] = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


def request_fields(given: Iterable[tuple[bytes, bytes]]) -> Fields:
    """A client's fields as a service may see them, in their order: no framing but Content-Length, nothing forged."""
    fields = list(given)
    dropped = _of_this_hop(fields)
    return [
        field
        for field in fields
        if field[0] not in dropped and field[0] not in _SAID_BY_THE_GATEWAY and not field[0].startswith(b"x-forwarded-")
    ]


def response_fields(given: Iterable[tuple[bytes, bytes]]) -> Fields:
    """A service's fields as its client sees them, in their order; names in small letters, as ASGI has them."""
    fields = [(name.lower(), value) for name, value in given]
    dropped = _of_this_hop(fields)
    return [field for field in fields if field[0] not in dropped]


def trailer_fields(given: Iterable[tuple[bytes, bytes]]) -> Fields:
    return [(name, value) for name, value in given if name.lower() not in NO_TRAILERS]


def forwarded_fields(*, client: str | None, scheme: str, host: bytes | None, request_id: str) -> Fields:
    """Who called, and how, in the gateway's words."""
    fields = [(b"x-forwarded-proto", scheme.encode()), (b"via", VIA), (b"x-request-id", request_id.encode())]
    if client is not None:
        fields.append((b"x-forwarded-for", client.encode()))
    if host is not None:
        fields.append((b"x-forwarded-host", host))
    return fields


def value_of(fields: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    """The first value of a field whose name is given in small letters."""
    return next((value for name, value in fields if name == wanted), None)


def head_bytes(first_line: bytes, fields: Fields) -> bytes:
    lines = [first_line]
    for name, value in fields:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def tokens(value: bytes) -> set[bytes]:
    """The words of a list such as `Connection` has, in small letters."""
    return {word.strip().lower() for word in value.split(b",")}


def _of_this_hop(fields: Fields) -> frozenset[bytes]:
    named = [tokens(value) for name, value in fields if name == b"connection"]
    return HOP_BY_HOP.union(*named) - NEVER_NAMED if named else HOP_BY_HOP
