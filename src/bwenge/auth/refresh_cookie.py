"""The refresh token of a browser's session, in a cookie that no script can read."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from bwenge.auth.refresh_tokens import REFRESH_TOKEN_LIFETIME
from bwenge.kit.errors import Forbidden

_MAX_AGE: Final = REFRESH_TOKEN_LIFETIME // timedelta(seconds=1)


class RefreshCookie:
    """How the cookie is written, and whose pages may use it.

    Args:
        addresses: Of the platform itself, and of other pages that may use the cookie; each stands for its origin.
        is_secure: Whether people reach the platform by https. Where they do not, as on a developer's machine, browsers
            keep neither a cookie whose name begins with `__Host-` nor one that is `Secure`.
    """

    def __init__(self, addresses: Collection[str], *, is_secure: bool) -> None:
        self._origins = {_origin(address) for address in addresses}
        self.name = "__Host-bwenge_refresh" if is_secure else "bwenge_refresh"
        self._attributes = "; HttpOnly; SameSite=Strict; Path=/" + ("; Secure" if is_secure else "")

    def set_to(self, token: str) -> str:
        """The value of `Set-Cookie`; a refresh token is of the alphabet of base64url, which needs no quoting."""
        return f"{self.name}={token}; Max-Age={_MAX_AGE}{self._attributes}"

    def cleared(self) -> str:
        return f"{self.name}=; Max-Age=0{self._attributes}"

    def require_own_page(self, origin: str | None) -> None:
        """Refuse a request of a page of another origin, by what the browser says in `Origin` (RFC 6454).

        Raises:
            Forbidden: Also where nothing is said: every browser does of a POST.
        """
        if origin is None or origin.lower() not in self._origins:
            raise Forbidden("The session's cookie may not be used from this page's origin")


def _origin(address: str) -> str:
    """Scheme, host and a port that is not the scheme's own, as browsers write it."""
    parts = urlsplit(address.lower())
    has_own_port = (parts.scheme, parts.port) in {("http", 80), ("https", 443)}
    return f"{parts.scheme}://{parts.netloc.rpartition(':')[0] if has_own_port else parts.netloc}"
