"""How much one network may ask, and what remembering it costs."""

import json
from typing import Any

import pytest

from bwenge.kit.http.flood import FloodGuard, TokenBuckets
from tests.support.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_burst_is_let_through_and_then_the_rate(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=10, burst=5, clock=clock)
    assert [buckets.take("a") for _ in range(5)] == [0.0] * 5
    assert buckets.take("a") == pytest.approx(0.1)
    assert buckets.take("b") == 0
    clock.now += 0.1
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0


def test_refusals_do_not_put_the_next_admission_off(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=10, burst=1, clock=clock)
    buckets.take("a")
    assert all(buckets.take("a") for _ in range(1000))
    clock.now += 0.1
    assert buckets.take("a") == 0


def test_a_long_pause_fills_a_bucket_to_its_burst_and_no_further(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=10, burst=3, clock=clock)
    buckets.take("a")
    clock.now += 3600
    assert [buckets.take("a") == 0 for _ in range(4)] == [True, True, True, False]


def test_over_a_minute_no_more_is_let_through_than_rate_and_burst(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=100, burst=1000, clock=clock)
    admitted = 0
    for _ in range(60_000):
        clock.now += 0.001
        admitted += buckets.take("a") == 0
    assert 6990 <= admitted <= 7001


def test_beyond_its_bound_the_network_seen_longest_ago_is_forgotten(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=1, burst=1, most=3, clock=clock)
    for network in ("a", "b", "c"):
        buckets.take(network)
    assert buckets.take("a") > 0  # seen again, and remembered
    buckets.take("d")
    assert len(buckets) == 3
    assert buckets.take("b") == 0
    assert buckets.take("a") > 0


async def asked(guard: FloodGuard, address: str, kind: str = "http") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": kind, "client": (address, 1), "headers": [], "method": "GET", "path": "/"}
    await guard(scope, receive, send)
    return sent


async def answers(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "let through"})


@pytest.mark.parametrize(
    ("kind", "start"), [("http", "http.response.start"), ("websocket", "websocket.http.response.start")]
)
async def test_a_flood_is_refused_as_other_limits_refuse(kind: str, start: str) -> None:
    guard = FloodGuard(answers, per_minute=60, burst=2)
    for _ in range(2):
        assert await asked(guard, "192.0.2.1", kind) == [{"type": "let through"}]
    refusal, body = await asked(guard, "192.0.2.1", kind)
    headers = {name: value for name, value in refusal["headers"] if name.startswith((b"rate", b"retry"))}
    assert (refusal["type"], refusal["status"]) == (start, 429)
    assert headers == {
        b"retry-after": b"1",
        b"ratelimit-limit": b"60",
        b"ratelimit-remaining": b"0",
        b"ratelimit-reset": b"1",
    }
    assert json.loads(body["body"])["code"] == "rate_limited"


async def test_addresses_of_one_ipv6_network_share_a_bucket() -> None:
    guard = FloodGuard(answers, per_minute=60, burst=1)
    assert len(await asked(guard, "2001:db8::1")) == 1
    assert len(await asked(guard, "2001:db8::2")) == 2
    assert len(await asked(guard, "2001:db8:0:1::1")) == 1
