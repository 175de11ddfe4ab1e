"""Which service answers which address: a table, and nothing that is not in it is reached."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from starlette.routing import compile_path

_ANY: Final = ""
"""The first segment of routes that begin with a parameter; no segment of a path that is looked up."""


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """An address that clients may reach.

    Attributes:
        path: As the service's own router has it, with parameters in braces.
        methods: A WebSocket's is GET.
        needs_token: Whether the service refuses whoever has none; asked for its own methods only, since a browser's
            preflight has none.
        max_body_bytes: Above this a body is refused here, before the service's own limit is asked.
        head_seconds: From the request's last piece to the answer's head; the gateway's setting where it is None.
        is_socket: Whether a WebSocket may begin here; elsewhere a request for one is a request like any other.
    """

    path: str
    methods: Collection[str]
    service: str
    needs_token: bool
    max_body_bytes: int
    head_seconds: float | None = None
    is_socket: bool = False

    def admits(self, method: str) -> bool:
        return method in self.methods


@dataclass(frozen=True, slots=True)
class _Entry:
    position: int
    pattern: re.Pattern[str] | None
    route: PublicRoute


class RouteTable:
    """Finds as Starlette's router does: the first entry of path and method in the given order, else of the path."""

    def __init__(self, routes: Iterable[PublicRoute]) -> None:
        self._static: dict[str, list[_Entry]] = {}
        self._by_segment: dict[str, list[_Entry]] = {}
        for position, route in enumerate(routes):
            pattern, _, converters = compile_path(route.path)
            if converters:
                first = route.path.split("/", 2)[1]
                segment = _ANY if "{" in first else first
                self._by_segment.setdefault(segment, []).append(_Entry(position, pattern, route))
            else:
                self._static.setdefault(route.path, []).append(_Entry(position, None, route))

    def find(self, method: str, path: str) -> PublicRoute | None:
        """The route of a decoded path; where none has the method, the path's first (its service answers 405)."""
        found: list[_Entry] = [*self._static.get(path, ())]
        segment = path[1:].partition("/")[0]
        for first in {segment, _ANY}:
            found += [entry for entry in self._by_segment.get(first, ()) if entry.pattern and entry.pattern.match(path)]
        if not found:
            return None
        return min(found, key=lambda entry: (not entry.route.admits(method), entry.position)).route
