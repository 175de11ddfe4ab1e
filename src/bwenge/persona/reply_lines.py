"""A reply as it crosses processes: a JSON object on a line for each event, and one for what broke it off."""

import json
from typing import Any, Final

from pydantic import TypeAdapter

from bwenge.kit.errors import BwengeError, Unavailable
from bwenge.persona.contract import Reply, ReplyAnimation, ReplyDelta, ReplyEvent, ReplyRequest
from bwenge.persona.errors import ModelUnavailable, PersonaNotFound

PATH: Final = "/internal/replies"
CALLER: Final = "chat"
"""The one service that asks for replies."""

_REQUEST: Final = TypeAdapter(ReplyRequest)
_OBJECT: Final = TypeAdapter(dict[str, dict[str, Any]])
_EVENTS: Final[dict[str, TypeAdapter[Any]]] = {
    "delta": TypeAdapter(ReplyDelta),
    "animation": TypeAdapter(ReplyAnimation),
    "reply": TypeAdapter(Reply),
}
_NAMES: Final = {ReplyDelta: "delta", ReplyAnimation: "animation", Reply: "reply"}
_BROKEN: Final = "broken"
_FAILURES: Final[dict[str, type[BwengeError]]] = {
    failure.code: failure for failure in (BwengeError, PersonaNotFound, ModelUnavailable)
}


def encode_request(request: ReplyRequest) -> bytes:
    return _REQUEST.dump_json(request)


def encode_event(event: ReplyEvent) -> bytes:
    """One line; a JSON text holds no line feed of its own."""
    name = _NAMES[type(event)]
    return b'{"%b":%b}\n' % (name.encode(), _EVENTS[name].dump_json(event))


def encode_failure(error: BwengeError) -> bytes:
    """The last line of a reply that broke off."""
    told = {"code": error.code, "detail": error.detail, "retry_after": error.retry_after}
    return json.dumps({_BROKEN: told}).encode() + b"\n"


def decode_request(content: bytes) -> ReplyRequest:
    """Raises ValueError for what is none."""
    return _REQUEST.validate_json(content)


def decode_line(line: bytes) -> ReplyEvent:
    """The event that a line tells.

    Raises:
        BwengeError: The failure that the line tells.
        ValueError, KeyError: It tells neither.
    """
    [(name, fields)] = _OBJECT.validate_json(line).items()
    if name == _BROKEN:
        raise _FAILURES.get(fields["code"], Unavailable)(fields["detail"], retry_after=fields["retry_after"])
    event: ReplyEvent = _EVENTS[name].validate_python(fields)
    return event
