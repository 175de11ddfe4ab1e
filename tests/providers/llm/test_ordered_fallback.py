import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

import pytest
import structlog

from bwenge.providers.llm.base import (
    ChatMessage,
    ChatRequest,
    FailureReason,
    ModelStreamBroken,
    ModelUnavailable,
    StreamEvent,
    TextDelta,
)
from bwenge.providers.llm.fake import ScriptedModel, Step
from bwenge.providers.llm.fallback import CircuitPolicy, OrderedFallback
from bwenge.providers.llm.openai_compatible import OpenAICompatible, ProviderConfig
from tests.support.model_server import Fault, Script, model_servers

REQUEST = ChatRequest((ChatMessage("user", "Muraho?"),), temperature=0.2, max_tokens=64, model="chosen-1")
POLICY = CircuitPolicy(threshold=2, open_for=20, rate_limit_default=5, retry_after_cap=60)
DOWN = FailureReason.CONNECTION


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Provider(ScriptedModel):
    """A scripted model whose steps the test may exchange."""

    def __init__(self, name: str, *steps: Step) -> None:
        self.steps = steps
        super().__init__(lambda _: self.steps, name=name)

    def down(self, reason: FailureReason = DOWN, *, retry_after: float | None = None) -> "Provider":
        self.steps = (ModelUnavailable(self.name, reason, retry_after=retry_after),)
        return self

    @property
    def asked(self) -> int:
        return len(self.requests)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def first() -> Provider:
    return Provider("first", "from the first")


@pytest.fixture
def second() -> Provider:
    return Provider("second", "from the second")


@pytest.fixture
def fallback(first: Provider, second: Provider, clock: Clock) -> OrderedFallback:
    return OrderedFallback([first, second], policy=POLICY, clock=clock)


async def text(model: OrderedFallback) -> str:
    async with contextlib.aclosing(model.stream(REQUEST)) as events:
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def all_failed(model: OrderedFallback) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        await text(model)
    return caught.value


async def test_the_first_that_answers_is_the_only_one_asked(
    fallback: OrderedFallback, first: Provider, second: Provider
) -> None:
    assert await text(fallback) == "from the first"
    assert (first.asked, second.asked) == (1, 0)


@pytest.mark.parametrize("reason", [reason for reason in FailureReason if reason is not FailureReason.ALL_FAILED])
async def test_the_next_is_asked_whatever_the_reason(
    fallback: OrderedFallback, first: Provider, reason: FailureReason
) -> None:
    first.down(reason)
    assert await text(fallback) == "from the second"


async def test_a_broken_stream_is_not_started_again_elsewhere(
    fallback: OrderedFallback, first: Provider, second: Provider
) -> None:
    first.steps = ("half an ", ModelStreamBroken("first", DOWN))
    with pytest.raises(ModelStreamBroken):
        await text(fallback)
    assert second.asked == 0


async def test_a_model_that_is_unavailable_too_late_counts_as_broken(
    fallback: OrderedFallback, first: Provider, second: Provider
) -> None:
    first.steps = ("half an ", ModelUnavailable("first", DOWN))
    with pytest.raises(ModelStreamBroken) as caught:
        await text(fallback)
    assert (caught.value.provider, second.asked) == ("first", 0)


@pytest.mark.parametrize("steps", [(), (" ", "\n")], ids=["no word", "blanks"])
async def test_a_model_that_says_nothing_has_not_begun(
    fallback: OrderedFallback, first: Provider, second: Provider, steps: tuple[str, ...]
) -> None:
    first.steps = steps
    assert [await text(fallback) for _ in range(3)] == ["from the second"] * 3
    assert (first.asked, second.asked) == (POLICY.threshold, 3)


async def test_a_model_that_breaks_off_after_blanks_has_not_begun(fallback: OrderedFallback, first: Provider) -> None:
    first.steps = ("\n", ModelStreamBroken("first", DOWN))
    assert await text(fallback) == "from the second"


async def test_blanks_before_the_first_word_are_part_of_the_answer(fallback: OrderedFallback, first: Provider) -> None:
    first.steps = ("\n", " ", "from the first")
    assert await text(fallback) == "\n from the first"


async def test_a_filter_that_stops_an_answer_says_nothing_about_the_provider(second: Provider, clock: Clock) -> None:
    filtered = ScriptedModel((), name="filtered", finish_reason="content_filter")
    fallback = OrderedFallback([filtered, second], policy=POLICY, clock=clock)
    assert [await text(fallback) for _ in range(5)] == ["from the second"] * 5
    assert len(filtered.requests) == 5


async def test_only_the_first_is_asked_for_the_model_that_the_request_names(
    fallback: OrderedFallback, first: Provider, second: Provider
) -> None:
    first.down()
    await text(fallback)
    assert [first.requests[0].model, second.requests[0].model] == ["chosen-1", None]


async def test_when_all_are_down_the_error_carries_each_reason(
    fallback: OrderedFallback, first: Provider, second: Provider
) -> None:
    first.down(FailureReason.TIMEOUT)
    second.down(FailureReason.SERVER_ERROR)
    error = await all_failed(fallback)
    assert error.reason is FailureReason.ALL_FAILED
    assert [(failure.provider, failure.reason.value) for failure in error.failures] == [
        ("first", "timeout"),
        ("second", "server_error"),
    ]
    assert str(error) == "first: timeout; second: server_error"


async def test_when_all_are_down_the_soonest_retry_is_told(
    fallback: OrderedFallback, first: Provider, second: Provider
) -> None:
    first.down(FailureReason.RATE_LIMITED, retry_after=40)
    second.down(FailureReason.RATE_LIMITED, retry_after=10)
    assert (await all_failed(fallback)).retry_after == 10


class TestRateLimits:
    async def test_a_limited_provider_is_left_alone_for_as_long_as_it_said(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        first.down(FailureReason.RATE_LIMITED, retry_after=30)
        await text(fallback)
        clock.now += 29
        await text(fallback)
        assert first.asked == 1

    async def test_it_is_asked_again_after_that(self, fallback: OrderedFallback, first: Provider, clock: Clock) -> None:
        first.down(FailureReason.RATE_LIMITED, retry_after=30)
        await text(fallback)
        first.steps = ("from the first",)
        clock.now += 30
        assert await text(fallback) == "from the first"

    async def test_a_wait_beyond_the_cap_is_not_believed(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        first.down(FailureReason.RATE_LIMITED, retry_after=86_400)
        await text(fallback)
        clock.now += POLICY.retry_after_cap
        await text(fallback)
        assert first.asked == 2

    async def test_a_limit_without_a_time_has_a_default(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        first.down(FailureReason.RATE_LIMITED)
        await text(fallback)
        await text(fallback)
        assert first.asked == 1
        clock.now += POLICY.rate_limit_default
        await text(fallback)
        assert first.asked == 2

    async def test_a_server_error_with_retry_after_is_respected_too(
        self, fallback: OrderedFallback, first: Provider
    ) -> None:
        first.down(FailureReason.SERVER_ERROR, retry_after=10)
        await text(fallback)
        await text(fallback)
        assert first.asked == 1


class TestCircuit:
    async def test_repeated_failures_cost_the_next_question_nothing(
        self, fallback: OrderedFallback, first: Provider
    ) -> None:
        first.down()
        for _ in range(10):
            assert await text(fallback) == "from the second"
        assert first.asked == POLICY.threshold

    async def test_failures_below_the_threshold_open_nothing(self, fallback: OrderedFallback, first: Provider) -> None:
        first.down()
        await text(fallback)
        first.steps = ("from the first",)
        assert await text(fallback) == "from the first"

    async def test_a_success_forgets_earlier_failures(self, fallback: OrderedFallback, first: Provider) -> None:
        for _ in range(POLICY.threshold + 1):
            first.down()
            await text(fallback)
            first.steps = ("from the first",)
            assert await text(fallback) == "from the first"

    async def test_an_answer_that_its_reader_closes_forgets_earlier_failures(
        self, fallback: OrderedFallback, first: Provider
    ) -> None:
        for _ in range(POLICY.threshold + 1):
            first.down()
            await text(fallback)
            first.steps = ("from the first", "and more")
            async with contextlib.aclosing(fallback.stream(REQUEST)) as events:
                assert await anext(events) == TextDelta("from the first")

    async def test_a_refused_request_says_nothing_about_the_provider(
        self, fallback: OrderedFallback, first: Provider
    ) -> None:
        first.down(FailureReason.REJECTED)
        for _ in range(5):
            await text(fallback)
        assert first.asked == 5

    async def test_broken_streams_open_the_circuit_too(self, fallback: OrderedFallback, first: Provider) -> None:
        first.steps = ("half an ", ModelStreamBroken("first", DOWN))
        for _ in range(POLICY.threshold):
            with pytest.raises(ModelStreamBroken):
                await text(fallback)
        assert await text(fallback) == "from the second"

    async def test_a_provider_that_recovered_is_first_again(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        await open_circuit(fallback, first)
        first.steps = ("from the first",)
        clock.now += POLICY.open_for
        assert [await text(fallback) for _ in range(2)] == ["from the first"] * 2

    async def test_a_failed_probe_opens_the_circuit_again(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        await open_circuit(fallback, first)
        clock.now += POLICY.open_for
        await text(fallback)
        await text(fallback)
        assert first.asked == POLICY.threshold + 1

    async def test_only_one_question_probes_at_a_time(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        await open_circuit(fallback, first)
        gate = asyncio.Event()
        first.steps = (gate, "from the first")
        clock.now += POLICY.open_for
        probe = asyncio.create_task(text(fallback))
        await until(lambda: first.asked == POLICY.threshold + 1)
        assert await text(fallback) == "from the second"
        gate.set()
        assert await probe == "from the first"

    async def test_a_cancelled_probe_lets_the_next_question_probe(
        self, fallback: OrderedFallback, first: Provider, clock: Clock
    ) -> None:
        await open_circuit(fallback, first)
        first.steps = (asyncio.Event(), "never said")
        clock.now += POLICY.open_for
        probe = asyncio.create_task(text(fallback))
        await until(lambda: first.asked == POLICY.threshold + 1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        first.steps = ("from the first",)
        assert await text(fallback) == "from the first"

    async def test_all_set_aside_fails_at_once_and_says_for_how_long(self, first: Provider, clock: Clock) -> None:
        alone = OrderedFallback([first.down()], policy=POLICY, clock=clock)
        for _ in range(POLICY.threshold):
            await all_failed(alone)
        clock.now += 5
        error = await all_failed(alone)
        assert [failure.reason for failure in error.failures] == [FailureReason.SET_ASIDE]
        assert error.retry_after == POLICY.open_for - 5

    async def test_setting_aside_is_logged_without_any_text(self, fallback: OrderedFallback, first: Provider) -> None:
        with structlog.testing.capture_logs() as logs:
            await open_circuit(fallback, first)
        assert logs == [
            {
                "event": "llm_provider_set_aside",
                "log_level": "warning",
                "provider": "first",
                "reason": "connection",
                "seconds": POLICY.open_for,
            }
        ]


async def test_a_closed_stream_closes_the_model_that_answers(clock: Clock) -> None:
    closed = asyncio.Event()

    class Endless:
        name = "endless"

        async def stream(self, _: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
            try:
                while True:
                    yield TextDelta("again ")
            finally:
                closed.set()

    async with contextlib.aclosing(OrderedFallback([Endless()], clock=clock).stream(REQUEST)) as events:
        await anext(events)
    assert closed.is_set()


def test_a_fallback_without_models_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        OrderedFallback([])


async def test_two_real_servers_the_first_limited() -> None:
    limited = Script(status=429, retry_after="30")
    async with model_servers(limited, Script(tokens=("from ", "the second"))) as servers:
        models = [
            OpenAICompatible(ProviderConfig(server.base_url, model="test", name=f"server-{position}"))
            for position, server in enumerate(servers)
        ]
        fallback = OrderedFallback(models)
        async with asyncio.timeout(20):
            assert [await text(fallback) for _ in range(3)] == ["from the second"] * 3
        for model in models:
            await model.aclose()
    assert [len(server.requests) for server in servers] == [1, 3]


async def test_two_real_servers_the_first_cut_in_the_middle() -> None:
    async with model_servers(Script(fault=Fault.CUT, fault_after=1), Script()) as servers:
        models = [OpenAICompatible(ProviderConfig(server.base_url, model="test", name="any")) for server in servers]
        async with asyncio.timeout(20):
            with pytest.raises(ModelStreamBroken):
                await text(OrderedFallback(models))
        for model in models:
            await model.aclose()
    assert [len(server.requests) for server in servers] == [1, 0]


async def open_circuit(fallback: OrderedFallback, provider: Provider) -> None:
    provider.down()
    for _ in range(POLICY.threshold):
        await text(fallback)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the fact waited for is a count inside a fake, not an event
            await asyncio.sleep(0)
