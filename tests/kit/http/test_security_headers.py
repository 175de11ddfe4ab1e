"""What browsers are told with every answer."""

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import Response

from bwenge.kit.http.headers import API_POLICY, HSTS, SecurityHeaders


async def get(path: str, *, scheme: str = "http") -> httpx2.Response:
    app = FastAPI()
    app.add_middleware(SecurityHeaders, own_policies={"/page": "default-src 'self'"})

    @app.get("/data")
    @app.get("/page")
    async def data() -> str:
        return "data"

    @app.get("/nothing", status_code=204)
    async def nothing() -> None: ...

    @app.get("/kept")
    async def kept() -> Response:
        return Response("kept", headers={"Cache-Control": "max-age=60", "Content-Security-Policy": "sandbox"})

    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=f"{scheme}://bwenge.test") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/data", "/not-there"])
async def test_an_answer_is_kept_by_no_cache_framed_by_no_page_and_run_by_nobody(path: str) -> None:
    headers = (await get(path)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == API_POLICY
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["referrer-policy"] == "no-referrer"


async def test_what_a_route_says_itself_stands() -> None:
    headers = (await get("/kept")).headers
    assert (headers["cache-control"], headers["content-security-policy"]) == ("max-age=60", "sandbox")


async def test_an_answer_without_a_body_names_no_type() -> None:
    assert "content-type" not in (await get("/nothing")).headers


async def test_a_page_may_have_a_policy_of_its_own() -> None:
    assert (await get("/page")).headers["content-security-policy"] == "default-src 'self'"


async def test_a_browser_that_came_by_https_comes_so_again() -> None:
    assert (await get("/data", scheme="https")).headers["strict-transport-security"] == HSTS
    assert "strict-transport-security" not in (await get("/data")).headers
