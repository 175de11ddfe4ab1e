"""Where a route takes an id: in its path, its query or its body, read from the route table and the OpenAPI document."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI

from tests.support.routes import Route, routes_of

Part = Literal["path", "query", "json", "form"]
_PART_OF_TYPE: Mapping[str, Part] = {"application/json": "json", "multipart/form-data": "form"}


@dataclass(frozen=True, order=True)
class IdPlace:
    """One place of one route into which a client may put an id.

    Attributes:
        path: As the route table writes it.
        name: Of the parameter or the body's field.
        in_list: Whether the field holds a list of ids.
    """

    path: str
    method: str
    part: Part
    name: str
    in_list: bool = False

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.part} {self.name}{'[]' * self.in_list}"


def id_places(app: FastAPI) -> list[IdPlace]:
    """All of them. A route that is not documented is taken to ask for what the GET of its path asks for."""
    document = app.openapi()
    return sorted({place for route in routes_of(app) for place in _of_route(route, document)})


def ids_in_path(path: str) -> list[str]:
    """The names of a path's parameters, each of which is an id, in their order."""
    return re.findall(r"\{(\w+)", path)


def _of_route(route: Route, document: Mapping[str, Any]) -> Iterator[IdPlace]:
    for name in ids_in_path(route.path):
        yield IdPlace(route.path, route.method, "path", name)
    operations: Mapping[str, Any] = document["paths"].get(route.path, {})
    operation = operations.get(route.method.lower(), operations.get("get", {}))
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query" and list(_ids(parameter["schema"], document)):
            yield IdPlace(route.path, route.method, "query", parameter["name"])
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        for place in _ids(content["schema"], document):
            match place:
                case (name,) | (name, "[]"):
                    yield IdPlace(route.path, route.method, _PART_OF_TYPE[media_type], name, in_list=len(place) > 1)
                case _:
                    raise AssertionError(f"{route.key}: nobody knows how to fill {place}")


def _ids(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The ways to the ids within what the schema describes."""
    if "$ref" in schema:
        yield from _ids(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if schema.get("format") == "uuid":
        yield ()
    for alternative in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _ids(alternative, document)
    if "items" in schema:
        for inner in _ids(schema["items"], document):
            yield ("[]", *inner)
    for name, field in schema.get("properties", {}).items():
        for inner in _ids(field, document):
            yield (name, *inner)
