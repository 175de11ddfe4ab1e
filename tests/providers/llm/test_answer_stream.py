import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwenge.providers.llm.answer_stream import AnswerStream, InvalidResponse, ServerReportedError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
DELTAS = ANYTHING | st.fixed_dictionaries({}, optional={"content": ANYTHING})
CHOICES = ANYTHING | st.lists(st.fixed_dictionaries({}, optional={"delta": DELTAS, "finish_reason": ANYTHING}))
CHUNKS = st.fixed_dictionaries(
    {}, optional={"choices": CHOICES, "usage": ANYTHING, "model": ANYTHING, "error": ANYTHING}
)


async def stream(items: Iterable[str]) -> AsyncIterator[str]:
    for item in items:
        yield item


async def read(*chunks: Any) -> tuple[str, AnswerStream]:
    answer = AnswerStream("default")
    events = stream(chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks)
    text = ""
    while (piece := await answer.next_text(events)) is not None:
        text += piece
    return text, answer


def said(text: object, **more: object) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}, **more}]}


@settings(max_examples=60)
@given(st.lists(CHUNKS.map(json.dumps) | st.text(), max_size=5))
async def test_whatever_a_server_sends_is_text_an_end_or_a_named_error(items: list[str]) -> None:
    answer = AnswerStream("default")
    events = stream(items)
    try:
        while (piece := await answer.next_text(events)) is not None:
            assert piece or answer.is_complete
            assert "\x00" not in piece
            piece.encode("utf-8")
    except (InvalidResponse, ServerReportedError):
        return
    end = answer.end()
    assert end.finish_reason in {"stop", "length", "content_filter"}
    assert min(end.prompt_tokens, end.completion_tokens) >= 0
    end.model.encode("utf-8")


async def test_text_beside_the_finish_reason_is_text() -> None:
    text, answer = await read(said("a"), said("b", finish_reason="stop"))
    assert text == "ab"
    assert answer.is_complete


async def test_the_finish_reason_is_told_at_once_and_only_once() -> None:
    answer = AnswerStream("default")
    events = stream(json.dumps(said(text, finish_reason="stop")) for text in ("", "", "late"))
    assert [await answer.next_text(events) for _ in range(3)] == ["", "late", None]


async def test_events_after_done_are_not_read() -> None:
    assert (await read(said("a"), "[DONE]", "not json"))[0] == "a"


async def test_the_last_usage_is_the_right_one() -> None:
    running = [{"usage": {"prompt_tokens": 9, "completion_tokens": count}} for count in (1, 2, 3)]
    _, answer = await read(*running, {"usage": None}, "[DONE]")
    assert (answer.end().prompt_tokens, answer.end().completion_tokens) == (9, 3)


async def test_an_answer_without_finish_reason_and_done_is_not_complete() -> None:
    assert not (await read(said("a")))[1].is_complete


@pytest.mark.parametrize("event", ["[1]", "null", "{", "[" * 100_000])
async def test_an_event_that_is_no_json_object_is_invalid(event: str) -> None:
    with pytest.raises(InvalidResponse) as caught:
        await read(event)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("error", "status"), [("overloaded", 500), ({"code": 503}, 503), ({"code": "x"}, 500), ({"code": 7}, 500)]
)
async def test_an_error_has_the_status_that_it_names(error: object, status: int) -> None:
    with pytest.raises(ServerReportedError) as caught:
        await read({"error": error})
    assert caught.value.status == status
