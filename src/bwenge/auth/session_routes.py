"""What the routes of sessions have in common: where a refresh token is found, and where it is put."""

from typing import Annotated, Final

from fastapi import Depends, Header, Request, Response

from bwenge.auth.errors import InvalidRefreshToken, MissingRefreshToken
from bwenge.auth.refresh_cookie import RefreshCookie
from bwenge.auth.schemas import LoginResponse
from bwenge.auth.service import Login
from bwenge.kit.http.dependencies import provided

_WANTED: Final = "1"


class SessionAnswer:
    """Of one request. With `X-Bwenge-Cookie: 1`, a header that no other page can send unasked, it is a browser's."""

    def __init__(
        self,
        request: Request,
        response: Response,
        cookie: Annotated[RefreshCookie, Depends(provided(RefreshCookie))],
        x_bwenge_cookie: Annotated[
            str | None, Header(description="`1` keeps the refresh token in a cookie that no script can read")
        ] = None,
    ) -> None:
        self._request = request
        self._response = response
        self._cookie = cookie
        self._is_browser = x_bwenge_cookie == _WANTED
        origin = request.headers.get("origin")
        if self._is_browser and origin is not None:
            cookie.require_own_page(origin)

    def presented_token(self, given: str | None) -> str | None:
        """The body's token, else of a browser the cookie's; None where there is neither.

        Raises:
            Forbidden: A page of another origin, or of an origin that is not told, would use the cookie.
        """
        if given is not None or not self._is_browser:
            return given
        token = self._request.cookies.get(self._cookie.name) or None
        if token is not None:
            self._cookie.require_own_page(self._request.headers.get("origin"))
        return token

    def required_token(self, given: str | None) -> str:
        """The same where nothing else stands for it.

        Raises:
            InvalidRefreshToken: The browser has no cookie.
            MissingRefreshToken: It is no browser, and gave none.
        """
        token = self.presented_token(given)
        if token is None:
            raise InvalidRefreshToken if self._is_browser else MissingRefreshToken
        return token

    def with_tokens(self, login: Login) -> LoginResponse:
        """RFC 6749, section 5.1: an answer that holds tokens is never stored by a cache."""
        self._response.headers["Cache-Control"] = "no-store"
        answer = LoginResponse.model_validate(login)
        if self._is_browser:
            self._response.headers["Set-Cookie"] = self._cookie.set_to(login.refresh_token)
            answer.refresh_token = None
        return answer

    def end_session(self) -> None:
        if self._is_browser:
            self._response.headers.append("Set-Cookie", self._cookie.cleared())


Answer = Annotated[SessionAnswer, Depends()]
