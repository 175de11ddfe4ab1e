"""Errors on the wire: RFC 9457 problem+json with a stable `code`."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bwenge.kit.errors import (
    BwengeError,
    Conflict,
    Forbidden,
    HeadTooLarge,
    Invalid,
    NotFound,
    PaymentRequired,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)
from bwenge.kit.telemetry import current_request_id

_log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
DEFAULT_RETRY_AFTER: Final = 5
MAX_FINDINGS: Final = 20
MAX_FIELD_CHARACTERS: Final = 200
"""Of a finding's field, whose name is the client's where it is an unknown one."""

_STATUS_OF_KIND: Final[Mapping[type[BwengeError], HTTPStatus]] = {
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    PaymentRequired: HTTPStatus.PAYMENT_REQUIRED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

_CODE_OF_STATUS: Final = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.NOT_FOUND: NotFound.code,
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge.code,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: UnsupportedType.code,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range_not_satisfiable",
}


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; one of the published list")
    request_id: str
    errors: list[dict[str, Any]] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI entry says of its refusals."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def status_of(error: BwengeError) -> HTTPStatus:
    for kind in type(error).__mro__:
        if kind in _STATUS_OF_KIND:
            return _STATUS_OF_KIND[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_response(error: BwengeError) -> JSONResponse:
    status = status_of(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None or status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(ceil(error.retry_after or DEFAULT_RETRY_AFTER))
    if isinstance(error, RateLimited) and error.limit is not None:
        headers["RateLimit-Limit"] = str(error.limit)
        headers["RateLimit-Remaining"] = "0"
        headers["RateLimit-Reset"] = headers["Retry-After"]
    return _response(
        status, title=error.title, detail=error.detail, code=error.code, errors=error.errors, headers=headers
    )


def status_response(status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal of the web server's own, which is no named fact of the platform."""
    code = _CODE_OF_STATUS.get(status, "http_error")
    return _response(status, title=status.phrase, detail=detail, code=code, headers=headers)


def _response(
    status: int,
    *,
    title: str,
    detail: str,
    code: str,
    errors: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(
        title=title,
        status=status,
        detail=detail,
        code=code,
        request_id=current_request_id(),
        errors=[dict(finding) for finding in errors] or None,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` in the one wire form; comes before any middleware, which then is around it."""
    app.add_middleware(_UnexpectedErrors)
    app.add_exception_handler(BwengeError, _on_bwenge_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_bwenge_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, BwengeError):
        raise error
    return problem_response(error)


async def _on_validation_error(_request: Request, error: Exception) -> JSONResponse:
    """A malformed id in the path answers as an unknown one does; all else names the fields, the first ones of many."""
    if not isinstance(error, RequestValidationError):
        raise error
    findings = error.errors()
    if any(finding["loc"][0] == "path" for finding in findings):
        return problem_response(NotFound())
    return problem_response(
        Invalid(
            errors=[
                {
                    "field": ".".join(str(part) for part in finding["loc"][1:])[:MAX_FIELD_CHARACTERS],
                    "code": finding["type"],
                    "message": finding["msg"],
                }
                for finding in findings[:MAX_FINDINGS]
            ]
        )
    )


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.__cause__, ValueError | RecursionError):
        # Bytes that are no UTF-8, brackets or digits without end: Python reads no JSON from these, though some might.
        finding = {"field": "", "code": "json_invalid", "message": "JSON decode error"}
        return problem_response(Invalid(errors=[finding]))
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.NOT_FOUND:
        return problem_response(NotFound())
    return status_response(status, str(error.detail), headers=error.headers)


class _UnexpectedErrors:
    """Log an exception that nobody handled and answer 500 without a word of it.

    Starlette's own last resort answers outside of all middleware, so without request id and CORS headers. An answer
    that has begun is broken off, so that nobody takes it for a whole one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except ClientDisconnect:
            _log.info("client_left")
        except Exception:
            _log.exception("request_failed")
            if has_begun:
                raise
            await problem_response(BwengeError())(scope, receive, send)
