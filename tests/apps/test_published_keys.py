"""What the gateway can tell of a token with nothing but the public keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from bwenge.apps.published_keys import PublishedKeys
from bwenge.auth.tokens import ACCESS_TOKEN_LIFETIME, AccessTokenIssuer, TokenKeys, generate_signing_key
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.waiting import comes_true

MEMBER = Principal(user_id=new_id(), org_id=new_id(), role=Role.USER)


@pytest.fixture
def keys() -> TokenKeys:
    return TokenKeys(generate_signing_key())


@asynccontextmanager
async def following(answers: list[httpx2.Response | Exception]) -> AsyncIterator[PublishedKeys]:
    """The gateway's keys once it has asked auth so many times; the last answer is given again and again."""
    asked: list[int] = []

    def answer(_request: httpx2.Request) -> httpx2.Response:
        asked.append(1)
        given = answers[min(len(asked), len(answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    published = PublishedKeys("http://auth")
    await published._http.aclose()
    published._http = httpx2.AsyncClient(base_url="http://auth", transport=httpx2.MockTransport(answer))
    published.start()

    async def has_asked() -> bool:
        return len(asked) >= len(answers)

    await comes_true(has_asked)
    try:
        yield published
    finally:
        await published.stop()


def token(keys: TokenKeys, *, at: datetime | None = None) -> str:
    issuer = AccessTokenIssuer(keys, clock=lambda: at or datetime.now(UTC))
    return issuer.issue(MEMBER, family_id=new_id())


def published(keys: TokenKeys) -> httpx2.Response:
    return httpx2.Response(200, json=keys.jwks())


async def judges(gateway: PublishedKeys, presented: str) -> bool:
    try:
        gateway.check(presented)
    except Unauthenticated:
        return False
    return True


async def test_a_token_is_good_until_it_ends(keys: TokenKeys) -> None:
    async with following([published(keys)]) as gateway:
        assert await judges(gateway, token(keys))
        ended = datetime.now(UTC) - ACCESS_TOKEN_LIFETIME - timedelta(minutes=5)
        assert not await judges(gateway, token(keys, at=ended))


async def test_what_auth_did_not_sign_is_refused(keys: TokenKeys) -> None:
    head, body, _ = token(keys).split(".")
    forged = f"{head}.{body}.{token(TokenKeys(generate_signing_key())).split('.')[2]}"
    async with following([published(keys)]) as gateway:
        for presented in ("", "a", "a.b.c", forged, forged.encode().hex(), "[" * 100_000):
            assert not await judges(gateway, presented), presented[:40]


async def test_a_key_that_is_not_known_yet_is_the_services_to_judge(keys: TokenKeys) -> None:
    async with following([published(keys)]) as gateway:
        assert await judges(gateway, token(TokenKeys(generate_signing_key())))


@pytest.mark.parametrize(
    "failure",
    [
        httpx2.ConnectError("refused"),
        httpx2.Response(503),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, json={"keys": [{"kty": "OKP"}]}),
        httpx2.Response(200, json=[]),
    ],
)
async def test_before_auth_answers_everything_passes_and_it_is_asked_again(keys: TokenKeys, failure: Any) -> None:
    async with following([failure, published(keys)]) as gateway:
        assert await judges(gateway, token(keys))
        ended = datetime.now(UTC) - ACCESS_TOKEN_LIFETIME - timedelta(minutes=5)
        assert not await judges(gateway, token(keys, at=ended))
