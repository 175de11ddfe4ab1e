"""Logs as JSON lines, each with the id of the request or job that it belongs to."""

import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

import structlog

LOG_BYTES: Final = 10 * 1024 * 1024
LOG_FILES: Final = 3

_request_id: Final[ContextVar[str]] = ContextVar("bwenge_request_id", default="-")


_client_address: Final[ContextVar[str | None]] = ContextVar("bwenge_client_address", default=None)


def current_client_address() -> str | None:
    """Where the present request came from; None outside of one."""
    return _client_address.get()


@contextmanager
def bind_client_address(address: str | None) -> Iterator[None]:
    token = _client_address.set(address)
    try:
        yield
    finally:
        _client_address.reset(token)


def current_request_id() -> str:
    return _request_id.get()


@contextmanager
def bind_request_id(request_id: str) -> Iterator[None]:
    token = _request_id.set(request_id)
    try:
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            yield
    finally:
        _request_id.reset(token)


def rotating_file(path: Path) -> logging.Handler:
    """Lines into a file that makes way for a new one after so many bytes; one process alone may write to it."""
    return logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES)


def configure_logging(handler: logging.Handler | None = None, *, level: str = "INFO") -> None:
    """Send our own records and those of libraries through one JSON renderer, to standard error by default."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    for replaced in before:
        replaced.close()
    root.setLevel(level)
    # uvicorn.error tells of each accepted socket with its query, which may carry a token.
    for indiscreet in ("httpx", "httpx2", "openai", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(indiscreet).setLevel(logging.WARNING)
