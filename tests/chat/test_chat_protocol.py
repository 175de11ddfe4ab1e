"""Frames as they stand on the wire, and what is read from it."""

import json
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import pytest

from bwenge.chat.errors import BadFrame, TooLong, TurnInProgress
from bwenge.chat.protocol import (
    MAX_FRAME_BYTES,
    Cancel,
    ClientTyping,
    Delta,
    HistoryMessage,
    LiveMessage,
    Ping,
    Refusal,
    SessionInfo,
    TurnError,
    UserMessage,
    error_facts,
    known_code,
    parse_frame,
)
from bwenge.chat.schemas import MessageBody, MessageMetadata
from bwenge.kit.errors import BwengeError, Forbidden, NotFound, PaymentRequired, RateLimited, Unavailable

ID = UUID("01900000-0000-7000-8000-000000000001")
OTHER = UUID("01900000-0000-7000-8000-000000000002")


def body(content: str = "Muraho", **metadata: Any) -> MessageBody:
    return MessageBody(
        message_id=ID,
        sender="assistant",
        content=content,
        timestamp=datetime(2026, 11, 23, 8, tzinfo=UTC),
        metadata=MessageMetadata(**metadata),
    )


# From the client.


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (
            f'{{"type": "user_message", "content": " Muraho\\n", "client_msg_id": "{ID}"}}',
            UserMessage(type="user_message", content=" Muraho\n", client_msg_id=ID),
        ),
        (f'{{"type": "cancel", "turn_id": "{ID}"}}', Cancel(type="cancel", turn_id=ID)),
        ('{"type": "typing", "is_typing": false}', ClientTyping(type="typing", is_typing=False)),
        ('{"type": "ping"}', Ping(type="ping")),
        ('{"type": "ping", "at": 1}', Ping(type="ping")),
    ],
)
def test_a_frame_is_read(text: str, frame: object) -> None:
    assert parse_frame(text) == frame


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "null",
        "[]",
        '"ping"',
        "{}",
        '{"type": null}',
        '{"type": "shout"}',
        '{"type": "session_info"}',
        '{"type": "cancel"}',
        '{"type": "cancel", "turn_id": "mine"}',
        '{"type": "typing"}',
        '{"type": "typing", "is_typing": "perhaps"}',
        '{"type": "user_message", "content": "no id"}',
        f'{{"type": "user_message", "client_msg_id": "{ID}"}}',
        f'{{"type": "user_message", "content": 7, "client_msg_id": "{ID}"}}',
        f'{{"type": "user_message", "content": "", "client_msg_id": "{ID}"}}',
        f'{{"type": "user_message", "content": " \\n", "client_msg_id": "{ID}"}}',
        f'{{"type": "user_message", "content": "a\\u0000b", "client_msg_id": "{ID}"}}',
        f'{{"type": "user_message", "content": "a\\ud800b", "client_msg_id": "{ID}"}}',
        "[" * 10_000,
        '{"type":' * 10_000,
    ],
)
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(BadFrame):
        parse_frame(text)


def test_the_refusal_of_a_frame_keeps_nothing_of_its_text() -> None:
    with pytest.raises(BadFrame) as refused:
        parse_frame('{"type": "cancel", "turn_id": "my secret"}')

    assert refused.value.__cause__ is None
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("character", ["a", "ĩ", "🦒"])
def test_the_length_of_a_question_counts_characters(character: str) -> None:
    def question(length: int) -> str:
        return json.dumps({"type": "user_message", "content": character * length, "client_msg_id": str(ID)})

    parse_frame(question(8_000))
    with pytest.raises(TooLong):
        parse_frame(question(8_001))


# To the client.


def test_a_frame_begins_with_its_type_and_session() -> None:
    frame = Delta(session_id=ID, seq=7, turn_id=OTHER, text="Murahó\n")

    assert frame.encode() == (f'{{"type":"delta","session_id":"{ID}","seq":7,"turn_id":"{OTHER}","text":"Murahó\\n"}}')


def test_what_is_not_known_is_left_out() -> None:
    info = SessionInfo(session_id=ID, persona_id=OTHER, message_count=0, last_seq=0, resumed=False)
    refusal = Refusal(session_id=ID, code="bad_frame", message="No")

    assert "active_turn_id" not in json.loads(info.encode())
    assert "retry_after" not in json.loads(refusal.encode())


def test_an_error_of_a_turn_is_numbered() -> None:
    frame = TurnError(session_id=ID, seq=3, turn_id=OTHER, code="model_unavailable", message="No", retry_after=5)

    assert json.loads(frame.encode()) == {
        "type": "error",
        "session_id": str(ID),
        "seq": 3,
        "code": "model_unavailable",
        "message": "No",
        "retry_after": 5,
        "turn_id": str(OTHER),
    }


def test_a_message_of_history_says_so_and_has_no_number() -> None:
    frame = json.loads(HistoryMessage(session_id=ID, message=body()).encode())

    assert frame["type"] == "message"
    assert frame["history"] is True
    assert "seq" not in frame
    assert frame["message"]["timestamp"] == "2026-11-23T08:00:00Z"


def test_the_empty_fields_of_metadata_are_told() -> None:
    frame = json.loads(LiveMessage(session_id=ID, seq=1, message=body()).encode())

    assert frame["message"]["metadata"]["grounded"] is None


def test_excerpts_are_cut_where_a_message_would_outgrow_its_frame() -> None:
    citations = [{"marker": marker, "text": "ĩ" * 3_000} for marker in range(20)]
    frame = LiveMessage(session_id=ID, seq=1, message=body("ĩ" * 15_000, citations=citations))

    encoded = frame.encode()

    told = json.loads(encoded)["message"]
    assert len(encoded.encode()) <= MAX_FRAME_BYTES
    assert told["content"] == "ĩ" * 15_000
    assert {len(citation["text"]) for citation in told["metadata"]["citations"]} == {200}


def test_excerpts_that_fit_are_told_whole() -> None:
    citations = [{"marker": 1, "text": "a" * 3_000}]

    encoded = LiveMessage(session_id=ID, seq=1, message=body(citations=citations)).encode()

    assert json.loads(encoded)["message"]["metadata"]["citations"] == citations


# Errors.


class Exhausted(PaymentRequired):
    code: ClassVar[str] = "quota_exhausted"


class Moderated(Forbidden):
    code: ClassVar[str] = "moderated"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadFrame(), "bad_frame"),
        (TurnInProgress(), "turn_in_progress"),
        (NotFound(), "persona_unavailable"),
        (Unavailable(), "model_unavailable"),
        (RateLimited(), "rate_limited"),
        (PaymentRequired(), "quota_exhausted"),
        (Exhausted(), "quota_exhausted"),
        (Moderated(), "moderated"),
        (Forbidden(), "internal"),
        (BwengeError(), "internal"),
    ],
)
def test_every_error_has_one_of_the_protocol_s_codes(error: BwengeError, code: str) -> None:
    assert error_facts(error).code == code


def test_the_wait_is_told_in_whole_seconds() -> None:
    assert error_facts(RateLimited(retry_after=1.2)).retry_after == 2


@pytest.mark.parametrize(
    ("code", "known"), [("moderated", "moderated"), ("timeout", "model_unavailable"), (None, "model_unavailable")]
)
def test_a_broken_stream_has_one_of_the_protocol_s_codes(code: str | None, known: str) -> None:
    assert known_code(code) == known
