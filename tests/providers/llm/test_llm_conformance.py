"""What every `LanguageModel` does, the shipped fake included."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bwenge.providers.llm.base import (
    ChatMessage,
    ChatRequest,
    FailureReason,
    LanguageModel,
    ModelStreamBroken,
    ModelUnavailable,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from bwenge.providers.llm.fake import ScriptedModel, Step
from bwenge.providers.llm.fallback import OrderedFallback
from bwenge.providers.llm.openai_compatible import OpenAICompatible, ProviderConfig
from tests.support.model_server import Fault, ModelServer, Script

BuildModel = Callable[[Script], Awaitable[LanguageModel]]

REQUEST = ChatRequest((ChatMessage("user", "Muraho, bite?"),), temperature=0.2, max_tokens=64)
TOKENS = ("Ibinyabuzima ", "bikenera ", "izuba ☀️.")


def scripted(script: Script) -> ScriptedModel:
    """The fake that says what a server with this script says."""
    if script.fault is None:
        steps: list[Step] = []
        for position, token in enumerate(script.tokens):
            steps += [script.gates[position], token] if position in script.gates else [token]
        return ScriptedModel(steps)
    kind = ModelStreamBroken if script.fault_after else ModelUnavailable
    return ScriptedModel([*script.tokens[: script.fault_after], kind("scripted", FailureReason.CONNECTION)])


@pytest.fixture(params=["scripted", "openai_compatible", "ordered_fallback"])
async def build(request: pytest.FixtureRequest) -> AsyncIterator[BuildModel]:
    async with contextlib.AsyncExitStack() as stack:

        async def openai_compatible(script: Script) -> LanguageModel:
            server = await stack.enter_async_context(ModelServer(script))
            model = OpenAICompatible(ProviderConfig(server.base_url, model="test", name="loopback"))
            stack.push_async_callback(model.aclose)
            return model

        async def build_model(script: Script) -> LanguageModel:
            if request.param == "scripted":
                return scripted(script)
            if request.param == "openai_compatible":
                return await openai_compatible(script)
            return OrderedFallback([scripted(script)])

        yield build_model


async def collect(model: LanguageModel) -> list[StreamEvent]:
    async with asyncio.timeout(20), contextlib.aclosing(model.stream(REQUEST)) as events:
        return [event async for event in events]


async def test_the_deltas_joined_are_the_answer(build: BuildModel) -> None:
    events = await collect(await build(Script(tokens=TOKENS)))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "".join(TOKENS)


async def test_a_stream_ends_with_exactly_one_end_that_names_model_and_usage(build: BuildModel) -> None:
    events = await collect(await build(Script(tokens=TOKENS)))
    ends = [event for event in events if isinstance(event, StreamEnd)]
    assert ends == [events[-1]]
    assert ends[0].finish_reason == "stop"
    assert ends[0].model
    assert ends[0].prompt_tokens == 2
    assert ends[0].completion_tokens == 3


async def test_a_failure_before_the_first_delta_is_model_unavailable(build: BuildModel) -> None:
    model = await build(Script(tokens=TOKENS, fault=Fault.CUT, fault_after=0))
    with pytest.raises(ModelUnavailable):
        await collect(model)


async def test_a_failure_after_the_first_delta_is_a_broken_stream(build: BuildModel) -> None:
    model = await build(Script(tokens=TOKENS, fault=Fault.CUT, fault_after=2))
    async with asyncio.timeout(20), contextlib.aclosing(model.stream(REQUEST)) as events:
        seen = [await anext(events), await anext(events)]
        with pytest.raises(ModelStreamBroken):
            await anext(events)
    assert seen == [TextDelta(TOKENS[0]), TextDelta(TOKENS[1])]


async def test_a_delta_is_passed_on_before_the_next_one_exists(build: BuildModel) -> None:
    rest = asyncio.Event()
    model = await build(Script(tokens=TOKENS, gates={1: rest}))
    async with asyncio.timeout(20), contextlib.aclosing(model.stream(REQUEST)) as events:
        assert await anext(events) == TextDelta(TOKENS[0])
        rest.set()
        assert await anext(events) == TextDelta(TOKENS[1])


async def test_a_closed_stream_leaves_the_model_usable(build: BuildModel) -> None:
    model = await build(Script(tokens=TOKENS))
    async with contextlib.aclosing(model.stream(REQUEST)) as events:
        await anext(events)
    assert len(await collect(model)) == len(TOKENS) + 1


async def test_streams_of_one_model_do_not_mix(build: BuildModel) -> None:
    model = await build(Script(tokens=TOKENS))
    answers = await asyncio.gather(*(collect(model) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
