"""The route table of an application, for the tests that go over all of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts


@dataclass(frozen=True)
class Route:
    """One method of one path, as it is written in the table: `/personas/{persona_id}`."""

    method: str
    path: str
    dependant: Dependant
    is_documented: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path


def routes_of(app: FastAPI) -> list[Route]:
    return sorted(_routes(app), key=lambda route: (route.path, route.method))


def _routes(app: FastAPI) -> Iterator[Route]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            for method in context.methods or ():
                yield Route(method, context.path or "", route.dependant, route.include_in_schema)


def socket_paths(app: FastAPI) -> set[str]:
    return {
        context.path or ""
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIWebSocketRoute)
    }
