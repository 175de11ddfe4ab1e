"""Errors as named facts.

A feature subclasses one of the kinds below and gives it a stable `code`:
`class QuotaExhausted(PaymentRequired): code = "quota_exhausted"`. One table maps the kinds to HTTP statuses
(`kit.http.problems`) and the codes to socket error frames, so no use case knows about either.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class BwengeError(Exception):
    """A refusal or failure that a client is told about.

    Args:
        detail: One sentence for a person; never holds a secret, another tenant's data or the text of a message.
        retry_after: Seconds after which the same request may succeed.
        errors: Findings per field, `{"field", "code", "message"}`.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after: float | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.errors = tuple(errors)
        super().__init__(self.detail)


class Unauthenticated(BwengeError):
    code = "unauthenticated"
    title = "Sign in first"


class PaymentRequired(BwengeError):
    code = "payment_required"
    title = "The plan does not allow this"


class Forbidden(BwengeError):
    code = "forbidden"
    title = "Your role does not allow this"


class NotFound(BwengeError):
    """Unknown, foreign and malformed ids all give this one answer."""

    code = "not_found"
    title = "There is no such thing here"


class Conflict(BwengeError):
    code = "conflict"
    title = "This contradicts the present state"


class TooLarge(BwengeError):
    code = "too_large"
    title = "The request is too large"


class HeadTooLarge(TooLarge):
    title = "The request's address and header fields are too large"


class UnsupportedType(BwengeError):
    code = "unsupported_type"
    title = "This type of content is not supported"


class Invalid(BwengeError):
    code = "invalid"
    title = "Some fields are not valid"


class RateLimited(BwengeError):
    """Args: limit: how many requests the window admits, where it is known."""

    code = "rate_limited"
    title = "Too many requests"

    def __init__(
        self, detail: str | None = None, *, retry_after: float | None = None, limit: int | None = None
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.limit = limit


class Unavailable(BwengeError):
    code = "unavailable"
    title = "This is not available at the moment"
