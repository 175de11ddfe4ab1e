"""The whole web application: what its settings open and close, and what a malformed request gets."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy.engine import URL

from bwenge.apps.settings import Settings
from bwenge.apps.web import create_app
from bwenge.kit.db import Database
from bwenge.kit.http.limits import MAX_BODY_BYTES
from tests.support.application import Application, open_application
from tests.support.databases import role_urls
from tests.support.feature_app import code_of

Opened = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def opened(application: Application, tmp_path: Path) -> Opened:
    """A client of the same platform under other settings."""

    @asynccontextmanager
    async def open_client(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
        settings = {"public_url": "https://bwenge.test"} | settings
        app = create_app(Settings(_env_file=None, data_dir=tmp_path, **settings), application.platform)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://bwenge.test") as client:
            yield client

    return open_client


async def preflight(client: httpx2.AsyncClient, origin: str, header: str = "Authorization") -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": header}
    return await client.options("/ai/respond", headers=asked)


async def test_the_printed_address_shows_a_person_where_to_go_on(opened: Opened) -> None:
    async with opened() as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for address in re.findall('href="([^"]+)"', page.text):
            assert (await client.get(address)).status_code != 404, address


async def test_no_other_origin_may_call_by_default(opened: Opened) -> None:
    async with opened() as client:
        answer = await client.get("/health", headers={"Origin": "https://school.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_the_origins_of_the_settings_may_call_and_no_others(opened: Opened) -> None:
    async with opened(cors_origins=["https://school.example"]) as client:
        ours, other = [await preflight(client, f"https://{name}.example") for name in ("school", "other")]
    assert ours.headers["access-control-allow-origin"] == "https://school.example"
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("header", ["Range", "If-None-Match", "Idempotency-Key", "Content-Type"])
async def test_a_page_of_an_allowed_origin_may_send_what_the_api_understands(opened: Opened, header: str) -> None:
    async with opened(cors_origins=["https://school.example"]) as client:
        assert (await preflight(client, "https://school.example", header)).status_code == 200


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(["https://school.example"], "true"), (["*"], None), (["https://school.example", "*"], None)],
)
async def test_a_session_s_cookie_is_sent_along_from_named_origins_alone(
    opened: Opened, origins: list[str], allowed: str | None
) -> None:
    async with opened(cors_origins=origins) as client:
        answers = [
            await preflight(client, "https://school.example"),
            await client.get("/health", headers={"Origin": "https://school.example", "Cookie": "bwenge_refresh=x"}),
        ]
    assert [answer.headers.get("access-control-allow-credentials") for answer in answers] == [allowed] * 2


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("bwenge.school.example", True),
        ("BWENGE.school.example:8000", True),
        ("a.b.schools.example", True),
        ("[::1]:8000", True),
        ("schools.example", False),
        ("evil.example", False),
        ("bwenge.school.example.evil.example", False),
        ("[::2]:8000", False),
        ("", False),
    ],
)
async def test_only_the_hosts_of_the_settings_are_served(opened: Opened, host: str, is_served: bool) -> None:  # noqa: FBT001  # a parameter
    async with opened(trusted_hosts=["bwenge.school.example", "*.schools.example", "[::1]"]) as client:
        answer = await client.get("/plans", headers={"Host": host})
    assert answer.headers["x-request-id"]
    if is_served:
        assert answer.status_code == 200
    else:
        assert code_of(answer) == (400, "bad_request")
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_whether_it_lives_is_told_under_any_name(opened: Opened) -> None:
    async with opened(trusted_hosts=["bwenge.school.example"]) as client:
        for path in ("/health", "/health/ready"):
            answer = await client.get(path, headers={"Host": "10.0.0.7:8000"})
            assert "status" in answer.json(), path


async def test_the_documentation_is_served_in_production_too(opened: Opened) -> None:
    async with opened(env="production") as client:
        assert (await client.get("/docs")).status_code == 200
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.1")


async def test_production_tells_nothing_more_of_a_defect(opened: Opened) -> None:
    async def broken() -> None:
        raise RuntimeError("ibanga")

    async with opened(env="production") as client:
        checks = client._transport.app.state  # type: ignore[attr-defined]  # the transport holds the application
        checks.readiness_checks = {"postgresql": broken}
        answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert "ibanga" not in answer.text


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", (422, "invalid")),
        (b"", "application/json", (422, "invalid")),
        (b"null", "application/json", (422, "invalid")),
        (b"[]", "application/json", (422, "invalid")),
        (b'{"identifier": "a"}', "application/json", (422, "invalid")),
        (b'{"identifier": "a", "password": "b"}', "text/plain", (422, "invalid")),
        (b'{"identifier": "\xff", "password": "b"}', "application/json", (422, "invalid")),
        (b"[" * 100_000, "application/json", (422, "invalid")),
        (b'{"identifier": ' + b"9" * 5_000 + b"}", "application/json", (422, "invalid")),
    ],
)
async def test_a_body_that_is_not_what_it_should_be_is_refused_by_name(
    application: Application, body: bytes, content_type: str, code: tuple[int, str]
) -> None:
    answer = await application.client.post("/auth/login", content=body, headers={"Content-Type": content_type})
    assert code_of(answer) == code


async def test_findings_name_the_field_and_never_repeat_its_value(application: Application) -> None:
    body = {"identifier": 7, "password": {"ibanga": "ryanjye"}}
    answer = await application.client.post("/auth/login", json=body)
    assert {finding["field"] for finding in answer.json()["errors"]} == {"identifier", "password"}
    assert all(finding.keys() == {"field", "code", "message"} for finding in answer.json()["errors"])
    assert "ryanjye" not in answer.text


@pytest.mark.parametrize(
    ("body", "findings"),
    [
        ({f"unknown-{n}": n for n in range(45_000)}, 1),
        ({"identifier": {f"unknown-{n}": n for n in range(45_000)}, "password": "b"}, 1),
        ({f"unknown-{n}": n for n in range(90)}, 20),
        ({"x" * 1_000_000: 1, "identifier": "a", "password": "b"}, 1),
    ],
    ids=["keys", "nested keys", "many findings", "a long key"],
)
async def test_a_refusal_is_short_whatever_was_sent(
    application: Application, body: dict[str, Any], findings: int
) -> None:
    answer = await application.client.post(
        "/auth/login", content=json.dumps(body, separators=(",", ":")), headers={"Content-Type": "application/json"}
    )
    assert code_of(answer) == (422, "invalid")
    assert len(answer.json()["errors"]) == findings
    assert len(answer.content) < 5_000


async def test_a_body_of_the_limit_is_read_and_one_more_byte_is_not(application: Application) -> None:
    fits = b'{"identifier": "' + b"x" * (MAX_BODY_BYTES - 18) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert len(fits) == MAX_BODY_BYTES
    read = await application.client.post("/auth/login", content=fits, headers=headers)
    refused = await application.client.post("/auth/login", content=fits + b" ", headers=headers)
    assert code_of(read) == (422, "invalid")
    assert code_of(refused) == (413, "too_large")


async def test_a_body_that_grows_past_the_limit_is_413_and_no_parsing_error(application: Application) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    answer = await application.client.post(
        "/auth/login", content=pieces(), headers={"Content-Type": "application/json"}
    )
    assert code_of(answer) == (413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing/here", (404, "not_found")),
        ("GET", "/health/", (404, "not_found")),
        ("DELETE", "/health", (405, "method_not_allowed")),
        ("PATCH", "/ai/respond", (405, "method_not_allowed")),
    ],
)
async def test_what_no_route_serves_is_a_problem_like_any_other(
    application: Application, method: str, path: str, code: tuple[int, str]
) -> None:
    answer = await application.client.request(method, path)
    assert code_of(answer) == code
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_refusal_for_the_method_names_the_methods_that_are_served(application: Application) -> None:
    assert (await application.client.delete("/health")).headers["allow"] == "GET"


async def test_the_metrics_are_in_prometheus_text_form(application: Application) -> None:
    await application.client.get("/health")
    answer = await application.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE bwenge_http_request_seconds histogram" in answer.text


@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh"])
async def test_without_a_database_the_answer_is_503_and_when_to_ask_again(tmp_path: Path, path: str) -> None:
    nowhere = URL.create("postgresql+psycopg", database="bwenge", query={"host": str(tmp_path)})
    body = {"/auth/login": {"identifier": "a@b.rw", "password": "umuneke-1"}, "/auth/refresh": {"refresh_token": "a"}}
    database = Database(role_urls(nowhere))
    try:
        async with open_application(database, tmp_path) as application:
            answer = await application.client.post(path, json=body[path])
    finally:
        await database.dispose()
    assert code_of(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
