"""Every request has an id, is noted once, and is answered, whatever happens while it is served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from prometheus_client import REGISTRY
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message

from bwenge.kit.http.middleware import RequestContext
from bwenge.kit.http.problems import install_problem_handlers
from bwenge.kit.ids import new_id
from bwenge.kit.telemetry import current_request_id

SECRET = "ibanga ryanjye"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    app.add_middleware(CORSMiddleware, allow_origins=["https://school.example"])
    app.add_middleware(RequestContext)

    @app.get("/things/{thing_id}")
    async def thing(thing_id: str) -> str:
        del thing_id
        return current_request_id()

    @app.get("/defect")
    async def defect() -> None:
        raise RuntimeError(SECRET)

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "begun"
            raise RuntimeError(SECRET)

        return StreamingResponse(pieces())

    @app.post("/read")
    async def read(request: Request) -> int:
        return len([piece async for piece in request.stream()])

    @app.websocket("/socket")
    async def refuse(websocket: WebSocket) -> None:
        await websocket.close()

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bwenge.test") as client:
        yield client


def noted(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("bwenge_http_requests_total", labels) or 0.0


async def test_a_defect_is_answered_with_its_request_id_and_nothing_of_its_cause(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/defect", headers={"X-Request-Id": "trace-7"})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["request_id"]) == (500, "internal", "trace-7")
    assert answer.headers["x-request-id"] == "trace-7"
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text


async def test_a_defect_is_logged_once_with_its_cause(client: httpx2.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        await client.get("/defect")
    (failure,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (failure["event"], failure["exc_info"]) == ("request_failed", True)


async def test_a_page_of_another_origin_may_read_what_a_defect_answers(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/defect", headers={"Origin": "https://school.example"})
    assert answer.headers["access-control-allow-origin"] == "https://school.example"


async def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole(client: httpx2.AsyncClient) -> None:
    with pytest.raises(RuntimeError, match=SECRET):
        await client.get("/half")


async def test_a_defect_is_noted_as_500(client: httpx2.AsyncClient) -> None:
    before = noted("GET", "/defect", 500)
    await client.get("/defect")
    assert noted("GET", "/defect", 500) == before + 1


async def test_the_routes_template_is_noted_and_not_the_path(client: httpx2.AsyncClient) -> None:
    before, path = noted("GET", "/things/{thing_id}", 200), f"/things/{new_id()}?token={SECRET}"
    with structlog.testing.capture_logs() as logs:
        await client.get(path)
    assert noted("GET", "/things/{thing_id}", 200) == before + 1
    assert [(entry["route"], entry["status"]) for entry in logs] == [("/things/{thing_id}", 200)]
    assert SECRET not in str(logs)


async def test_paths_without_a_route_are_noted_together(client: httpx2.AsyncClient) -> None:
    before = noted("GET", "unmatched", 404)
    for _ in range(3):
        await client.get(f"/{new_id()}")
    assert noted("GET", "unmatched", 404) == before + 3


async def test_requests_at_the_same_time_keep_their_own_ids(client: httpx2.AsyncClient) -> None:
    ids = [f"trace-{number}" for number in range(10)]
    answers = await asyncio.gather(*(client.get("/things/1", headers={"X-Request-Id": given}) for given in ids))
    assert [answer.json() for answer in answers] == ids


async def call_asgi(app: FastAPI, scope: dict[str, Any], receive: Callable[[], Awaitable[Message]]) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Any) -> None:
        sent.append(message)

    base = {"asgi": {"version": "3.0"}, "headers": [], "query_string": b"", "path": "/", "raw_path": b"/", "app": app}
    await app(base | scope, receive, send)
    return sent


async def test_a_client_that_leaves_is_no_defect_of_ours(app: FastAPI) -> None:
    async def leave() -> Message:
        return {"type": "http.disconnect"}

    before = noted("POST", "/read", 499)
    with structlog.testing.capture_logs() as logs:
        sent = await call_asgi(app, {"type": "http", "method": "POST", "path": "/read"}, leave)
    assert sent == []
    assert noted("POST", "/read", 499) == before + 1
    assert {entry["log_level"] for entry in logs} == {"info"}


async def test_a_refused_handshake_is_noted_as_a_refusal_and_not_as_a_defect(app: FastAPI) -> None:
    async def connect() -> Message:
        return {"type": "websocket.connect"}

    before = noted("WEBSOCKET", "/socket", 403)
    await call_asgi(app, {"type": "websocket", "path": "/socket", "subprotocols": []}, connect)
    assert noted("WEBSOCKET", "/socket", 403) == before + 1
