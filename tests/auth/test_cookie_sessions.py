"""Browser sessions: the refresh token in a cookie that no script can read, for the platform's own pages."""

from http.cookies import SimpleCookie
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from pwdlib import PasswordHash

from bwenge.auth.refresh_cookie import RefreshCookie
from bwenge.auth.settings import AuthSettings
from bwenge.auth.wiring import build
from bwenge.kit.errors import Forbidden
from tests.auth.conftest import PUBLIC_URL
from tests.support.accounts import EMAIL, PASSWORD, registration
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import bearer, client_of, code_of, feature_app

NAME = "__Host-bwenge_refresh"
BROWSER = {"X-Bwenge-Cookie": "1", "Origin": PUBLIC_URL}


def _cookie(answer: Response, name: str = NAME) -> Any:
    """The one that the answer sets."""
    return SimpleCookie(answer.headers["set-cookie"])[name]


async def _log_in(client: AsyncClient, headers: dict[str, str] = BROWSER) -> Response:
    answer = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}, headers=headers)
    client.cookies.clear()
    return answer


async def _call(client: AsyncClient, path: str, token: str | None, headers: dict[str, str] = BROWSER) -> Response:
    cookie = {} if token is None else {"Cookie": f"{NAME}={token}"}
    answer = await client.post(path, headers=headers | cookie)
    client.cookies.clear()
    return answer


@pytest.mark.usefixtures("login")
async def test_a_login_puts_the_refresh_token_into_a_cookie_and_not_into_the_body(client: AsyncClient) -> None:
    answer = await _log_in(client)

    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "user"}
    cookie = _cookie(answer)
    assert len(cookie.value) == 43
    assert cookie["httponly"] is True
    assert cookie["secure"] is True
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Strict", "/", "")
    assert cookie["max-age"] == str(7 * 24 * 3600)
    assert answer.headers["cache-control"] == "no-store"


async def test_a_registration_does_so_too(client: AsyncClient) -> None:
    answer = await client.post("/auth/register", json=registration(), headers=BROWSER)

    assert answer.status_code == 201
    assert "refresh_token" not in answer.json()
    assert _cookie(answer).value


async def test_without_the_header_there_is_no_cookie(client: AsyncClient, login: dict[str, Any]) -> None:
    answer = await client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})

    assert "set-cookie" not in answer.headers
    assert answer.json()["refresh_token"]


@pytest.mark.usefixtures("login")
async def test_a_refresh_reads_the_cookie_and_sets_the_next_one(client: AsyncClient) -> None:
    token = _cookie(await _log_in(client)).value
    answer = await _call(client, "/auth/refresh", token)

    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()
    assert _cookie(answer).value != token
    assert (await _call(client, "/auth/refresh", _cookie(answer).value)).status_code == 200


@pytest.mark.usefixtures("login")
async def test_a_logout_ends_the_cookies_session_and_clears_the_cookie(client: AsyncClient) -> None:
    token = _cookie(await _log_in(client)).value
    answer = await _call(client, "/auth/logout", token)

    assert (answer.status_code, answer.content) == (204, b"")
    assert (_cookie(answer).value, _cookie(answer)["max-age"]) == ("", "0")
    assert code_of(await _call(client, "/auth/refresh", token)) == (401, "unauthenticated")


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize("origin", ["https://evil.test", "null", f"{PUBLIC_URL}.evil.test", "http://bwenge.test", None])
async def test_a_page_of_another_origin_may_not_use_the_cookie(
    client: AsyncClient, path: str, origin: str | None
) -> None:
    token = _cookie(await _log_in(client)).value
    headers = {"X-Bwenge-Cookie": "1"} | ({} if origin is None else {"Origin": origin})

    assert code_of(await _call(client, path, token, headers)) == (403, "forbidden")
    assert (await _call(client, "/auth/refresh", token)).status_code == 200


@pytest.mark.usefixtures("login")
async def test_a_page_of_another_origin_may_not_set_the_cookie_either(client: AsyncClient) -> None:
    answer = await _log_in(client, {"X-Bwenge-Cookie": "1", "Origin": "https://evil.test"})

    assert code_of(answer) == (403, "forbidden")
    assert "set-cookie" not in answer.headers


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("headers", [{"Origin": PUBLIC_URL}, {"X-Bwenge-Cookie": "0", "Origin": PUBLIC_URL}])
async def test_a_cookie_that_came_without_the_header_is_not_read(client: AsyncClient, headers: dict[str, str]) -> None:
    token = _cookie(await _log_in(client)).value

    assert code_of(await _call(client, "/auth/refresh", token, headers)) == (422, "invalid")
    assert code_of(await _call(client, "/auth/logout", token, headers)) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize("token", [None, "", "unknown"])
async def test_a_missing_or_unknown_cookie_refreshes_nothing(client: AsyncClient, path: str, token: str | None) -> None:
    answer = await _call(client, path, token)

    # Whoever is signed out already is told so, but an unknown token has no session to end (RFC 7009).
    assert answer.status_code == (204 if path == "/auth/logout" and token == "unknown" else 401)


async def test_a_token_in_the_body_goes_before_the_cookie(client: AsyncClient, login: dict[str, Any]) -> None:
    answer = await client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]}, headers=BROWSER)

    assert answer.status_code == 200
    assert _cookie(answer).value


async def test_a_browser_logs_out_by_its_access_token_where_the_cookie_is_the_sessions(
    client: AsyncClient, login: dict[str, Any]
) -> None:
    answer = await _call(client, "/auth/logout", login["refresh_token"], BROWSER | bearer(login["access_token"]))

    assert answer.status_code == 204
    assert code_of(await _call(client, "/auth/refresh", login["refresh_token"])) == (401, "unauthenticated")


async def test_a_browser_that_lost_its_cookie_logs_out_by_its_access_token(
    client: AsyncClient, login: dict[str, Any]
) -> None:
    answer = await _call(client, "/auth/logout", None, BROWSER | bearer(login["access_token"]))

    assert answer.status_code == 204
    assert _cookie(answer).value == ""
    ended = await client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert code_of(ended) == (401, "unauthenticated")


async def test_without_https_the_cookie_is_one_that_browsers_keep(
    database: SavepointDatabase, signing_key_pem: str, quick_hash: PasswordHash
) -> None:
    settings = AuthSettings(public_url="http://127.0.0.1:8000", refusal_seconds=0)
    feature = build(database, signing_key_pem=signing_key_pem, password_hash=quick_hash, settings=settings)
    app = feature_app(
        *feature.routers, database=database, token_verifier=feature.token_verifier, services=[*feature.provided]
    )
    async with client_of(app) as client:
        answer = await client.post("/auth/register", json=registration(), headers={"X-Bwenge-Cookie": "1"})
    cookie = _cookie(answer, "bwenge_refresh")
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == ("", True, "Strict")


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://bwenge.rw", "https://bwenge.rw"),
        ("https://Bwenge.RW/app/", "https://bwenge.rw"),
        ("https://bwenge.rw:443", "https://bwenge.rw"),
        ("http://bwenge.rw:80", "http://bwenge.rw"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://bwenge.rw:8443", "https://bwenge.rw:8443"),
    ],
)
def test_an_address_stands_for_its_origin(address: str, origin: str) -> None:
    RefreshCookie([address], is_secure=True).require_own_page(origin)
    with pytest.raises(Forbidden):
        RefreshCookie([address], is_secure=True).require_own_page(f"{origin}0")
