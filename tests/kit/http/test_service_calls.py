"""Calls between services: signed for just what they say, by one service, for a minute."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from bwenge.kit.errors import Unauthenticated
from bwenge.kit.http.dependencies import provide
from bwenge.kit.http.problems import install_problem_handlers
from bwenge.kit.http.service_calls import LIFETIME_SECONDS, ServiceCalls, service
from bwenge.kit.signing import Signer
from tests.support.clocks import ManualClock

CALL: dict[str, Any] = {"caller": "chat", "method": "POST", "path": "/internal/sums", "body": b'{"a":1}'}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def calls(clock: ManualClock) -> ServiceCalls:
    return ServiceCalls(Signer(b"k" * 32, clock=clock))


def test_the_call_that_was_signed_is_believed_for_a_minute(calls: ServiceCalls, clock: ManualClock) -> None:
    authorization = calls.authorization(**CALL)
    calls.verify(authorization, **CALL)
    clock.now += LIFETIME_SECONDS
    calls.verify(authorization, **CALL)
    clock.now += 1
    with pytest.raises(Unauthenticated):
        calls.verify(authorization, **CALL)


@pytest.mark.parametrize(
    "other", [{"caller": "gateway"}, {"method": "PUT"}, {"path": "/internal/other"}, {"body": b'{"a":2}'}]
)
def test_it_is_no_other_call(calls: ServiceCalls, other: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        calls.verify(calls.authorization(**CALL), **CALL | other)


def test_another_key_signs_nothing(calls: ServiceCalls, clock: ManualClock) -> None:
    with pytest.raises(Unauthenticated):
        calls.verify(ServiceCalls(Signer(b"x" * 32, clock=clock)).authorization(**CALL), **CALL)


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda rest: f"Bwenge-Service chat.{rest}"))
def test_whatever_else_is_presented_is_refused(presented: str) -> None:
    with pytest.raises(Unauthenticated):
        ServiceCalls(Signer(b"k" * 32)).verify(presented, **CALL)


async def test_a_route_of_services_answers_to_the_one_service_that_it_names(calls: ServiceCalls) -> None:
    app = FastAPI()
    install_problem_handlers(app)
    provide(app.state, calls)

    @app.post("/internal/sums", dependencies=[service("chat")])
    async def sums() -> int:
        return 3

    body = CALL["body"]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://sums") as client:

        async def status(authorization: str | None) -> int:
            headers = {} if authorization is None else {"Authorization": authorization}
            return (await client.post("/internal/sums", content=body, headers=headers)).status_code

        assert await status(calls.authorization(**CALL)) == 200
        assert await status(calls.authorization(**CALL | {"caller": "auth"})) == 401
        assert await status(None) == 401
        assert await status("Bearer token") == 401
