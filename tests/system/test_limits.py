"""Rate limits of a running platform, and whose address it believes."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.platform import PlatformProcess

RATES = {"BWENGE_RATE_LIMITS": "true", "BWENGE_RATE_LIMIT_AUTH_LOGIN": "2/minute"}


@pytest.fixture(scope="module")
def behind_a_proxy(folder: Path) -> Iterator[PlatformProcess]:
    environment = RATES | {"BWENGE_TRUSTED_PROXIES": "127.0.0.1"}
    with PlatformProcess(folder / "behind", environment=environment) as platform:
        yield platform


@pytest.fixture(scope="module")
def in_the_open(folder: Path) -> Iterator[PlatformProcess]:
    with PlatformProcess(folder / "open", environment=RATES) as platform:
        yield platform


def log_in(platform: PlatformProcess, *, forwarded_for: str) -> httpx2.Response:
    return httpx2.post(
        f"{platform.url}/auth/login",
        json={"identifier": "nobody@school.example", "password": "not the one"},
        headers={"X-Forwarded-For": forwarded_for},
        timeout=60,
        trust_env=False,
    )


def test_the_address_that_a_trusted_proxy_names_is_the_one_that_is_counted(behind_a_proxy: PlatformProcess) -> None:
    answers = [log_in(behind_a_proxy, forwarded_for="197.243.0.1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert log_in(behind_a_proxy, forwarded_for="197.243.0.2").status_code == 401


def test_without_a_trusted_proxy_nobody_chooses_their_own_address(in_the_open: PlatformProcess) -> None:
    answers = [log_in(in_the_open, forwarded_for=f"197.243.0.{number}") for number in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
