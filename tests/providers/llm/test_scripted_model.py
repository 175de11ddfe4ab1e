import pytest

from bwenge.providers.llm.base import ChatMessage, ChatRequest, StreamEnd, TextDelta
from bwenge.providers.llm.fake import ScriptedModel


def ask(content: str, *, model: str | None = None) -> ChatRequest:
    return ChatRequest((ChatMessage("user", content),), temperature=0, max_tokens=10, model=model)


async def test_a_callable_chooses_the_steps_by_the_request() -> None:
    model = ScriptedModel(lambda request: [request.messages[-1].content.upper()])
    assert await anext(model.stream(ask("hi"))) == TextDelta("HI")


async def test_it_remembers_what_it_was_asked() -> None:
    model = ScriptedModel(["x"])
    for content in ("one", "two"):
        async for _ in model.stream(ask(content)):
            pass
    assert model.requests == [ask("one"), ask("two")]


async def test_the_end_is_as_it_was_told() -> None:
    model = ScriptedModel(["a", "", "b"], model="m-1", finish_reason="length")
    assert [event async for event in model.stream(ask("one two three"))][-1] == StreamEnd("length", "m-1", 3, 2)


async def test_the_model_that_a_request_names_is_the_one_that_answers() -> None:
    *_, end = [event async for event in ScriptedModel([]).stream(ask("hi", model="m-2"))]
    assert isinstance(end, StreamEnd)
    assert end.model == "m-2"


async def test_an_exception_is_raised_where_it_stands() -> None:
    events = ScriptedModel(["a", OSError("here")]).stream(ask("hi"))
    assert await anext(events) == TextDelta("a")
    with pytest.raises(OSError, match="here"):
        await anext(events)
