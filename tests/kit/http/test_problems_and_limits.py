"""The web rules that hold for every route: problems, request ids, body limits, readiness."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from bwenge.kit import errors
from bwenge.kit.http import system
from bwenge.kit.http.limits import BodyLimit
from bwenge.kit.http.middleware import RequestContext
from bwenge.kit.http.problems import install_problem_handlers, status_of


def application(failure: Exception | None = None, *, max_body_bytes: int = 100) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    app.add_middleware(BodyLimit, streamed={"/streamed"}, max_bytes=max_body_bytes)
    app.add_middleware(RequestContext)
    app.include_router(system.router)

    @app.get("/fail")
    async def fail() -> None:
        if failure is not None:
            raise failure

    @app.post("/take")
    async def take(body: dict[str, str]) -> dict[str, str]:
        return body

    return app


async def call(app: FastAPI, method: str, path: str, **options: object) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bwenge.test") as client:
        return await client.request(method, path, **options)  # type: ignore[arg-type]  # the client's own options


KINDS = [
    (errors.Unauthenticated, 401),
    (errors.PaymentRequired, 402),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.UnsupportedType, 415),
    (errors.Invalid, 422),
    (errors.RateLimited, 429),
    (errors.Unavailable, 503),
]


@pytest.mark.parametrize(("kind", "status"), KINDS)
async def test_each_kind_of_error_has_its_status_and_code(kind: type[errors.BwengeError], status: int) -> None:
    answer = await call(application(kind(retry_after=2.1)), "GET", "/fail")
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, kind.code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "3"
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_no_kind_of_error_is_without_a_status() -> None:
    assert {kind for kind, _ in KINDS} == set(errors.BwengeError.__subclasses__()) & {
        value for value in vars(errors).values() if isinstance(value, type)
    }
    assert status_of(errors.BwengeError()) == 500


async def test_a_defect_answers_500_and_tells_nothing_of_itself() -> None:
    answer = await call(application(RuntimeError("the password is ibanga")), "GET", "/fail")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "ibanga" not in answer.text


@pytest.mark.parametrize(("sent", "kept"), [("trace-7.a_b", True), ("x" * 65, False), ("a b", False), ("", False)])
async def test_a_sound_request_id_is_kept_and_another_replaced(sent: str, kept: bool) -> None:  # noqa: FBT001  # a parameter
    answer = await call(application(), "GET", "/health", headers={"X-Request-Id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept
    assert answer.headers["x-request-id"]


async def test_a_body_above_the_limit_is_refused_by_its_declared_length() -> None:
    answer = await call(application(), "POST", "/take", content=b'{"a": "' + b"x" * 200 + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_body_above_the_limit_is_refused_as_it_grows() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10

    answer = await call(application(), "POST", "/take", content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_bad_fields_are_named() -> None:
    answer = await call(application(), "POST", "/take", json={"a": 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "a"


@pytest.mark.parametrize("body", [b'{"a": "\xff"}', b"[" * 100_000, b"9" * 5_000, b'{"a": '])
async def test_a_body_that_is_no_json_is_not_valid(body: bytes) -> None:
    app = application(max_body_bytes=200_000)
    answer = await call(app, "POST", "/take", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"][0]["code"] == "json_invalid"


async def test_ready_is_what_every_dependency_says_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "CHECK_SECONDS", 0.05)
    app = application()

    async def well() -> None:
        """Nothing is wrong."""

    async def broken() -> None:
        raise ConnectionError

    async def silent() -> None:
        await asyncio.Event().wait()

    app.state.readiness_checks = {"postgresql": well}
    assert (await call(app, "GET", "/health/ready")).status_code == 200
    app.state.readiness_checks = {"postgresql": well, "jobs": broken, "blobs": silent}
    answer = await call(app, "GET", "/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "unavailable",
        "checks": {"postgresql": "ok", "jobs": "failed", "blobs": "failed"},
    }


async def test_metrics_name_the_route_and_never_the_query() -> None:
    app = application()
    await call(app, "GET", "/health?ticket=ibanga")
    text = (await call(app, "GET", "/metrics")).text
    assert 'route="/health"' in text
    assert "ibanga" not in text
