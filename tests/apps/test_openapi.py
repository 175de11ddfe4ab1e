"""The OpenAPI document is what an engineer builds a client from."""

import re
from typing import Any

import pytest

from tests.support.application import Application


@pytest.fixture
def document(application: Application) -> dict[str, Any]:
    return application.app.openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_each_operation_has_a_description_a_tag_and_its_own_name(document: dict[str, Any]) -> None:
    named = operations(document)
    assert [name for name, operation in named if not operation.get("description")] == []
    assert [name for name, operation in named if not operation.get("tags")] == []
    ids = [operation["operationId"] for _, operation in named]
    assert sorted(ids) == sorted(set(ids))


def test_refusals_are_documented_as_problems_and_never_as_the_frameworks_own(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")) and "content" in answer and name != "GET /health/ready":
                assert list(answer["content"]) == ["application/problem+json"], (name, status)


def test_each_operation_that_needs_a_login_says_so(document: dict[str, Any]) -> None:
    open_to_all = {
        "/auth/register",
        "/auth/login",
        "/auth/refresh",
        "/auth/password/forgot",
        "/.well-known/jwks.json",
        "/health",
    }
    open_to_all |= {"/health/ready", "/metrics", "/plans"}
    for name, operation in operations(document):
        if name.split()[1] not in open_to_all:
            assert "401" in operation["responses"], name


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document))):
        assert reference in document["components"]["schemas"]
