"""Rate limits: what is counted together, what is refused, and what holds while Redis is away."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from bwenge.kit.errors import RateLimited
from bwenge.kit.http.dependencies import provide
from bwenge.kit.http.problems import install_problem_handlers
from bwenge.kit.http.rates import client_network, limited
from bwenge.kit.ratelimit import LOCAL, BoundedMemory, RateLimiter
from tests.support.redis_server import RedisServer, redis_server

NAME: Final = "area.act"


async def admitted(limiter: RateLimiter, times: int, *whose: str, rate: str = "3/minute") -> int:
    """How many of so many hits at once are admitted."""
    results = await asyncio.gather(*(limiter.hit(NAME, rate, *whose) for _ in range(times)), return_exceptions=True)
    assert all(result is None or isinstance(result, RateLimited) for result in results)
    return results.count(None)


async def test_no_more_hits_are_admitted_than_the_rate_says_however_many_come_at_once() -> None:
    assert await admitted(RateLimiter(), 10, "user:a") == 3


async def test_others_and_other_limits_are_counted_apart() -> None:
    limiter = RateLimiter()
    await admitted(limiter, 5, "user:a")
    assert await admitted(limiter, 1, "user:b") == 1
    await limiter.hit("area.other", "1/minute", "user:a")


async def test_a_refusal_says_how_long_to_wait_and_what_the_limit_is() -> None:
    limiter = RateLimiter()
    await admitted(limiter, 3, "user:a")
    with pytest.raises(RateLimited) as refusal:
        await limiter.hit(NAME, "3/minute", "user:a")
    assert 1 <= (refusal.value.retry_after or 0) <= 60
    assert refusal.value.limit == 3


async def test_a_window_that_has_passed_admits_again() -> None:
    limiter = RateLimiter()
    assert await admitted(limiter, 2, "user:a", rate="1/second") == 1
    async with asyncio.timeout(10):
        while await admitted(limiter, 1, "user:a", rate="1/second") == 0:  # noqa: ASYNC110  # time itself has no event
            await asyncio.sleep(0.05)


async def test_settings_override_a_rate_by_its_name() -> None:
    assert await admitted(RateLimiter(overrides={"AREA_ACT": "5/minute"}), 10, "user:a") == 5


async def test_limits_that_are_off_refuse_nobody() -> None:
    assert await admitted(RateLimiter(is_on=False), 50, "user:a") == 50


async def test_while_redis_is_away_each_process_limits_by_itself_and_a_metric_says_so() -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        limiter = RateLimiter(redis_url=f"redis://127.0.0.1:{nobody_listens.getsockname()[1]}")
        before = LOCAL._value.get()
        assert await admitted(limiter, 10, "user:a") == 3
        await limiter.close()
    assert LOCAL._value.get() >= before + 10


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


async def test_processes_that_share_a_redis_share_their_limits(redis: RedisServer) -> None:
    one, other = RateLimiter(redis_url=redis.url), RateLimiter(redis_url=redis.url)
    assert await admitted(one, 2, "user:a") + await admitted(other, 5, "user:a") == 3
    await one.close()
    await other.close()


async def test_limits_hold_while_redis_is_restarted(redis: RedisServer) -> None:
    limiter = RateLimiter(redis_url=redis.url)
    await admitted(limiter, 3, "user:a")
    redis.stop()
    assert await admitted(limiter, 10, "user:a") == 3
    redis.start()
    assert await admitted(limiter, 10, "user:a") == 0
    await limiter.close()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("197.243.1.2", "197.243.1.2"),
        ("::ffff:197.243.1.2", "197.243.1.2"),
        ("2c0f:eb08:1:2:aaaa::1", "2c0f:eb08:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_stands_for_the_network_of_one_subscriber(host: str, network: str) -> None:
    assert client_network(HTTPConnection({"type": "http", "client": (host, 1), "headers": []})) == network


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    install_problem_handlers(app)
    provide(app.state, RateLimiter())

    @app.get("/limited", dependencies=[limited(NAME, "2/minute", by="address")])
    async def answer() -> str:
        return "yes"

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://bwenge.test") as client:
        yield client


async def test_a_route_over_its_limit_answers_429_with_when_to_come_back(client: httpx2.AsyncClient) -> None:
    first, second, third = [await client.get("/limited") for _ in range(3)]
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert third.json()["code"] == "rate_limited"
    assert third.headers["ratelimit-limit"] == "2"
    assert third.headers["ratelimit-remaining"] == "0"
    assert third.headers["retry-after"] == third.headers["ratelimit-reset"]


async def test_a_forwarded_address_is_not_believed(client: httpx2.AsyncClient) -> None:
    """Who is in front is known to the server alone (`BWENGE_TRUSTED_PROXIES`); a client's own word is nothing."""
    answers = [await client.get("/limited", headers={"X-Forwarded-For": f"10.0.0.{number}"}) for number in range(3)]
    assert answers[-1].status_code == 429


async def test_windows_in_memory_are_forgotten_in_passing_and_their_number_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(BoundedMemory, "MOST_WINDOWS", 20)
    memory = BoundedMemory()

    async def hit(whose: str) -> bool:
        return await memory.acquire_entry(whose, 2, 60)

    assert [await hit("a") for _ in range(3)] == [True, True, False]
    for number in range(50):
        await hit(f"stranger {number}")
        assert len(memory.events) <= 20
        # Who is refused is not forgotten for the strangers' sake.
        assert await hit("a") is False
    now += 61
    for _ in range(20):
        await hit("b")

    assert set(memory.events) == {"b"}
    assert await hit("a") is True
