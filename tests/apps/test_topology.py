"""The table of services: where they listen, who serves which address, and that together they are the whole platform."""

from typing import Any

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from typer.testing import CliRunner

from bwenge.apps import front_page
from bwenge.apps.gateway_service import SLOW, public_routes
from bwenge.apps.settings import Settings
from bwenge.apps.topology import GATEWAY, PUBLIC_ROUTERS, SERVICES, port_of
from bwenge.apps.web import documented_app
from bwenge.cli.app import cli

SYSTEM = {"/health", "/health/ready", "/metrics"}


def document_of(*routers: Any) -> dict[str, Any]:
    return documented_app(routers).openapi()


def test_each_service_has_the_port_that_is_published() -> None:
    names = (GATEWAY, *SERVICES)
    assert {name: port_of(name, base_port=8000) for name in names} == {
        "gateway": 8000,
        "auth": 8001,
        "ingest": 8002,
        "persona": 8003,
        "chat": 8004,
        "3d": 8005,
        "analytics": 8006,
        "payments": 8007,
    }


def test_every_address_is_one_services() -> None:
    owners: dict[str, str] = {}
    for service in SERVICES.values():
        for path in document_of(*service.routers)["paths"].keys() - SYSTEM:
            assert owners.setdefault(path, service.name) == service.name, path


def test_the_services_documents_together_are_the_platforms() -> None:
    whole = document_of(*PUBLIC_ROUTERS, front_page.router)
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for service in SERVICES.values():
        document = document_of(*service.routers)
        paths |= document["paths"]
        schemas |= document["components"]["schemas"]
    assert paths == whole["paths"]
    assert schemas == whole["components"]["schemas"]


def test_the_gateway_knows_every_public_operation_and_the_socket() -> None:
    known = {(method, route.path) for route in public_routes() for method in route.methods}
    paths = document_of(*PUBLIC_ROUTERS)["paths"]
    operations = {(method.upper(), path) for path in paths.keys() - SYSTEM for method in paths[path]}
    assert known == operations | {("GET", "/ws/chat"), ("HEAD", "/knowledge/{source_id}/file")}


def test_the_gateway_knows_no_internal_route() -> None:
    internal = {
        context.path
        for service in SERVICES.values()
        for context in iter_route_contexts(documented_app(service.internal_routers).routes)
        if isinstance(context.original_route, APIRoute | APIWebSocketRoute) and context.path not in SYSTEM
    }
    assert internal == {"/internal/replies"}
    assert not internal & {route.path for route in public_routes()}


@pytest.mark.parametrize(
    ("path", "method", "needs_token"),
    [
        ("/personas", "GET", True),
        ("/ws/chat", "GET", True),
        ("/jobs/{job_id}", "GET", True),
        ("/auth/login", "POST", False),
        ("/auth/refresh", "POST", False),
        ("/plans", "GET", False),
        ("/knowledge/{source_id}/file", "GET", False),
    ],
)
def test_the_edge_asks_for_a_token_where_the_service_does(path: str, method: str, *, needs_token: bool) -> None:
    [route] = [route for route in public_routes() if route.path == path and method in route.methods]
    assert route.needs_token is needs_token


def test_a_socket_begins_only_where_there_is_one() -> None:
    assert [route.path for route in public_routes() if route.is_socket] == ["/ws/chat"]


def test_each_address_that_may_be_slow_is_one() -> None:
    slow = {route.path: route.head_seconds for route in public_routes() if route.head_seconds is not None}
    assert slow == SLOW


def test_what_is_no_service_is_told_by_the_names_of_those_that_are() -> None:
    result = CliRunner().invoke(cli, ["serve", "mail"])
    assert result.exit_code == 2
    assert all(name in result.output for name in (GATEWAY, *SERVICES))


@pytest.mark.parametrize("value", ["persona:8003", "http://{name}:{port}", "http://x/{", "ftp://{service}", ""])
def test_an_address_of_services_that_leads_nowhere_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"http://bwenge-\{service\}:\{port\}"):
        Settings(_env_file=None, service_url=value)


def test_services_are_found_by_name_or_by_port() -> None:
    named = Settings(_env_file=None, service_url="http://bwenge-{service}:{port}/")
    assert named.address_of("3d", port=8005) == "http://bwenge-3d:8005"
    assert Settings(_env_file=None).address_of("3d", port=8005) == "http://127.0.0.1:8005"
