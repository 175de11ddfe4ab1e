"""The chat protocol's frames, limits and codes: the one place that knows how they look on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import ceil
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bwenge.chat.errors import BadFrame, MemberDeactivated, Restarting, SessionDeleted, TooLong
from bwenge.chat.schemas import MessageBody
from bwenge.kit.errors import BwengeError, Invalid, NotFound, PaymentRequired, RateLimited, Unavailable
from bwenge.kit.storable import require_storable

MAX_FRAME_BYTES: Final = 64 * 1024
MAX_QUESTION_CHARACTERS: Final = 8_000
MAX_DELTA_CHARACTERS: Final = 4_000
"""A longer piece is sent as several deltas, so that none outgrows a frame even when every character is escaped."""
MAX_ANSWER_BYTES: Final = 40 * 1024
"""Of an answer as JSON; a longer one ends there with `length`, since its message has to fit into one frame."""

Detail = Literal["full", "text"]
FinishReason = Literal["stop", "cancelled", "length", "error"]


class CloseCode(IntEnum):
    """RFC 6455, section 7.4.1, and the product's own from 4000."""

    BINARY = 1003
    TOO_LARGE = 1009
    RESTART = 1012
    SLOW_READER = 1013
    TOKEN_EXPIRED = 4401
    DEACTIVATED = 4403
    SESSION_DELETED = 4404


# Frames to the client.


class ServerFrame(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: str
    session_id: UUID

    def encode(self) -> str:
        return self.model_dump_json()


class NumberedFrame(ServerFrame):
    """`seq` rises within the session and is the same for whoever receives the frame."""

    seq: int


class SessionInfo(ServerFrame):
    type: Literal["session_info"] = "session_info"
    persona_id: UUID
    message_count: int
    last_seq: int
    resumed: bool
    active_turn_id: UUID | None = Field(default=None, exclude_if=lambda value: value is None)


class _MessageFrame(ServerFrame):
    message: MessageBody

    def encode(self) -> str:
        """The frame, with the excerpts in its citations cut as far as the limit of a frame demands."""
        encoded = super().encode()
        for characters in (1_000, 200, 0):
            if len(encoded.encode()) <= MAX_FRAME_BYTES:
                break
            encoded = self._with_excerpts_of(characters).model_dump_json()
        return encoded

    def _with_excerpts_of(self, characters: int) -> "_MessageFrame":
        metadata = self.message.metadata
        cut = [{**citation, "text": citation["text"][:characters]} for citation in metadata.citations]
        message = self.message.model_copy(update={"metadata": metadata.model_copy(update={"citations": cut})})
        return self.model_copy(update={"message": message})


class HistoryMessage(_MessageFrame):
    """A message that was stored before the socket came, outside the numbering."""

    type: Literal["message"] = "message"
    history: Literal[True] = True


class LiveMessage(_MessageFrame, NumberedFrame):
    type: Literal["message"] = "message"


class Typing(ServerFrame):
    type: Literal["typing"] = "typing"
    is_typing: bool
    who: Literal["assistant"] = "assistant"


class TurnStarted(NumberedFrame):
    """`message_id` is the question's, so that a client can tell which of its questions is being answered."""

    type: Literal["turn_started"] = "turn_started"
    turn_id: UUID
    message_id: UUID


class Delta(NumberedFrame):
    type: Literal["delta"] = "delta"
    turn_id: UUID
    text: str


class Animation(NumberedFrame):
    type: Literal["animation"] = "animation"
    animation: str
    turn_id: UUID


class Viseme(NumberedFrame):
    """Times in milliseconds from the turn's first viseme."""

    type: Literal["viseme"] = "viseme"
    turn_id: UUID
    visemes: list[str]
    vtimes: list[int]
    vdurations: list[int]


class TurnFinished(NumberedFrame):
    type: Literal["turn_finished"] = "turn_finished"
    turn_id: UUID
    finish_reason: FinishReason
    usage: dict[str, int]


class Refusal(ServerFrame):
    """An error that belongs to no turn: it goes to the socket whose frame was refused."""

    type: Literal["error"] = "error"
    code: str
    message: str
    retry_after: int | None = Field(default=None, exclude_if=lambda value: value is None)


class TurnError(NumberedFrame):
    type: Literal["error"] = "error"
    code: str
    message: str
    retry_after: int | None = Field(default=None, exclude_if=lambda value: value is None)
    turn_id: UUID


class Pong(ServerFrame):
    type: Literal["pong"] = "pong"


# Frames from the client. Fields that the protocol does not name are passed over.


class _ClientFrame(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class UserMessage(_ClientFrame):
    type: Literal["user_message"]
    content: str
    client_msg_id: UUID


class Cancel(_ClientFrame):
    type: Literal["cancel"]
    turn_id: UUID


class ClientTyping(_ClientFrame):
    type: Literal["typing"]
    is_typing: bool


class Ping(_ClientFrame):
    type: Literal["ping"]


ClientFrame = UserMessage | Cancel | ClientTyping | Ping
_client_frame: Final[TypeAdapter[ClientFrame]] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


def parse_frame(text: str) -> ClientFrame:
    """Read a client's frame.

    Raises:
        BadFrame: Not JSON, not a frame of the protocol, an empty question, or text that could not be stored.
        TooLong: The question has more than `MAX_QUESTION_CHARACTERS`.
    """
    try:
        frame = _client_frame.validate_json(text)
    except ValidationError:
        # Raised outside of the handler, whose error quotes the client's text.
        raise BadFrame from None
    if isinstance(frame, UserMessage):
        _check_question(frame.content)
    return frame


def _check_question(content: str) -> None:
    if len(content) > MAX_QUESTION_CHARACTERS:
        raise TooLong(f"A question has at most {MAX_QUESTION_CHARACTERS} characters")
    if not content.strip():
        raise BadFrame("The question is empty")
    try:
        require_storable(content)
    except ValueError as error:
        raise BadFrame("The question holds characters that no text may hold") from error


# Errors.

_CODES: Final = frozenset(
    {
        "bad_frame",
        "too_long",
        "turn_in_progress",
        "rate_limited",
        "quota_exhausted",
        "persona_unavailable",
        "model_unavailable",
        "moderated",
        "turn_lost",
        "internal",
    }
)

_CODE_OF_KIND: Final[Mapping[type[BwengeError], str]] = {
    NotFound: "persona_unavailable",
    Unavailable: "model_unavailable",
    PaymentRequired: "quota_exhausted",
    RateLimited: "rate_limited",
    Invalid: "bad_frame",
}
"""For errors of other features whose own code is not one of the protocol's."""

CLOSE_CODE_OF: Final[Mapping[type[BwengeError], CloseCode]] = {
    SessionDeleted: CloseCode.SESSION_DELETED,
    MemberDeactivated: CloseCode.DEACTIVATED,
    Restarting: CloseCode.RESTART,
}
"""Errors after which the socket is of no use."""


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error frame tells; `retry_after` in whole seconds."""

    code: str
    message: str
    retry_after: int | None

    def fields(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "retry_after": self.retry_after}


def error_facts(error: BwengeError) -> ErrorFacts:
    code = _code_of(error)
    retry_after = None if error.retry_after is None else ceil(error.retry_after)
    return ErrorFacts(code=code, message=error.detail, retry_after=retry_after)


def known_code(code: str | None) -> str:
    """The code if it is one of the protocol's; a stream that broke for another reason is the model's failure."""
    return code if code is not None and code in _CODES else "model_unavailable"


def _code_of(error: BwengeError) -> str:
    if error.code in _CODES:
        return error.code
    kinds = (_CODE_OF_KIND[kind] for kind in type(error).__mro__ if kind in _CODE_OF_KIND)
    return next(kinds, "internal")
