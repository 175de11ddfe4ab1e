"""The table finds what Starlette's router would, and nothing else."""

import pytest

from bwenge.gateway.routing import PublicRoute, RouteTable
from bwenge.gateway.wiring import build
from tests.support.gateways import check_token, nothing_here


def entry(path: str, *methods: str, service: str = "persona") -> PublicRoute:
    return PublicRoute(path, frozenset(methods or ("GET",)), service, needs_token=False, max_body_bytes=1)


TABLE = RouteTable(
    [
        entry("/personas", "GET", service="list"),
        entry("/personas", "POST", service="make"),
        entry("/personas/mine", service="mine"),
        entry("/personas/{persona_id}", "GET", "PATCH", service="one"),
        entry("/personas/late", service="never"),
        entry("/personas/{persona_id}/sources/{source_id}", service="source"),
        entry("/numbers/{number:int}", service="number"),
        entry("/files/{path:path}", service="file"),
        entry("/{anything}/end", service="end"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/personas", "list"),
        ("POST", "/personas", "make"),
        ("DELETE", "/personas", "list"),
        ("GET", "/personas/mine", "mine"),
        ("PATCH", "/personas/mine", "one"),
        ("GET", "/personas/late", "one"),
        ("GET", "/personas/a b", "one"),
        ("GET", "/personas/a/sources/b", "source"),
        ("GET", "/personas/end", "one"),
        ("GET", "/numbers/12", "number"),
        ("GET", "/numbers/x", None),
        ("GET", "/files/a/b", "file"),
        ("GET", "/whatever/end", "end"),
        ("GET", "/personas/", None),
        ("GET", "/personas/a/sources", None),
        ("GET", "/personas/a/", None),
        ("GET", "//personas", None),
        ("GET", "/", None),
        ("GET", "", None),
        ("GET", "/personas\n", None),
        ("GET", "/personas/a\n", "one"),
    ],
)
def test_a_path_leads_to_the_first_that_has_its_method_else_to_the_first(
    method: str, path: str, service: str | None
) -> None:
    found = TABLE.find(method, path)
    assert (found and found.service) == service


def test_a_route_of_a_service_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="no address is given for persona"):
        build([entry("/a")], {}, check_token=check_token, key_prefix="k", fallback=nothing_here)


@pytest.mark.parametrize("url", ["https://h:1", "http://h", "http://h:1/path", "h:1", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="persona needs an address"):
        build([entry("/a")], {"persona": url}, check_token=check_token, key_prefix="k", fallback=nothing_here)
