import asyncio
import contextlib
import dataclasses
import datetime as dt
import email.utils
import gc
import traceback
from collections.abc import AsyncIterator

import pytest
import structlog
from pydantic import SecretStr

from bwenge.providers.llm.base import (
    ChatMessage,
    ChatRequest,
    FailureReason,
    ModelFailure,
    ModelStreamBroken,
    ModelUnavailable,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from bwenge.providers.llm.openai_compatible import OpenAICompatible, ProviderConfig, StreamTimeouts
from tests.support.model_server import Fault, Messages, ModelServer, Script, last_message, refused_port

KEY = "sk-very-secret-0123456789"
REQUEST = ChatRequest(
    (ChatMessage("system", "Answer briefly."), ChatMessage("user", "What is photosynthesis?")),
    temperature=0.3,
    max_tokens=50,
)
PATIENT = StreamTimeouts(connect=10, first_token=10, between_tokens=10, whole=20)
HURRIED_FIRST = StreamTimeouts(connect=10, first_token=0.2, between_tokens=10, whole=20)
HURRIED_BETWEEN = StreamTimeouts(connect=10, first_token=10, between_tokens=0.2, whole=20)


@contextlib.asynccontextmanager
async def model_for(
    base_url: str,
    *,
    timeouts: StreamTimeouts = PATIENT,
    key: str | None = KEY,
    max_response_bytes: int = 1_000_000,
) -> AsyncIterator[OpenAICompatible]:
    config = ProviderConfig(base_url, model="default-1", name="loopback", api_key=SecretStr(key) if key else None)
    model = OpenAICompatible(config, timeouts=timeouts, max_response_bytes=max_response_bytes)
    try:
        yield model
    finally:
        await model.aclose()


async def collect(model: OpenAICompatible, request: ChatRequest = REQUEST) -> list[StreamEvent]:
    """Every event; the bound is generous, and proves that no fault waits for ever."""
    async with asyncio.timeout(15), contextlib.aclosing(model.stream(request)) as events:
        return [event async for event in events]


async def answer(script: Script) -> tuple[str, StreamEnd]:
    async with ModelServer(script) as server, model_for(server.base_url) as model:
        *deltas, end = await collect(model)
    assert isinstance(end, StreamEnd)
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), end


async def failure(script: Script, *, timeouts: StreamTimeouts = PATIENT) -> ModelFailure:
    async with ModelServer(script) as server, model_for(server.base_url, timeouts=timeouts) as model:
        with pytest.raises(ModelFailure) as caught:
            await collect(model)
        assert len(server.requests) == 1, "the SDK must not try again by itself"
    return caught.value


async def unavailable(script: Script, *, timeouts: StreamTimeouts = PATIENT) -> ModelUnavailable:
    error = await failure(script, timeouts=timeouts)
    assert isinstance(error, ModelUnavailable)
    return error


async def broken(script: Script, *, timeouts: StreamTimeouts = PATIENT) -> ModelStreamBroken:
    error = await failure(script, timeouts=timeouts)
    assert isinstance(error, ModelStreamBroken)
    return error


class TestRequest:
    async def test_the_request_holds_the_conversation_and_the_limits(self) -> None:
        async with ModelServer() as server, model_for(server.base_url) as model:
            await collect(model)
        assert server.requests[0].body == {
            "model": "default-1",
            "messages": [
                {"role": "system", "content": "Answer briefly."},
                {"role": "user", "content": "What is photosynthesis?"},
            ],
            "temperature": 0.3,
            "max_tokens": 50,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def test_the_request_names_its_own_model(self) -> None:
        async with ModelServer() as server, model_for(server.base_url) as model:
            *_, end = await collect(model, dataclasses.replace(REQUEST, model="other-2"))
        assert server.requests[0].body["model"] == "other-2"
        assert isinstance(end, StreamEnd)
        assert end.model == "other-2"

    async def test_the_key_is_presented(self) -> None:
        async with ModelServer(api_key=KEY) as server, model_for(server.base_url) as model:
            assert isinstance((await collect(model))[-1], StreamEnd)

    async def test_a_newline_after_the_key_is_not_part_of_it(self) -> None:
        async with ModelServer(api_key=KEY) as server, model_for(server.base_url, key=KEY + "\n") as model:
            assert isinstance((await collect(model))[-1], StreamEnd)

    async def test_a_server_without_keys_is_asked_without_the_key_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-meant-for-somebody-else")
        async with ModelServer(api_key="none") as server, model_for(server.base_url, key=None) as model:
            assert isinstance((await collect(model))[-1], StreamEnd)

    async def test_an_uncompressed_answer_is_asked_for(self) -> None:
        async with ModelServer() as server, model_for(server.base_url) as model:
            await collect(model)
        assert server.requests[0].headers["accept-encoding"] == "identity"

    async def test_a_connection_is_used_again(self) -> None:
        async with ModelServer() as server, model_for(server.base_url) as model:
            await collect(model)
            await collect(model)
        assert [request.connection for request in server.requests] == [1, 1]

    @pytest.mark.parametrize("refused", ["max_tokens", "temperature", "stream_options"])
    async def test_a_parameter_that_the_server_refuses_is_left_out_from_then_on(self, refused: str) -> None:
        async with (
            ModelServer(Script(refused_parameters=(refused,))) as server,
            model_for(server.base_url) as model,
        ):
            await collect(model)
            await collect(model)
        assert [refused in request.body for request in server.requests] == [True, False, False]

    async def test_requests_at_the_same_time_all_learn_of_a_refused_parameter(self) -> None:
        async with (
            ModelServer(Script(refused_parameters=("temperature",))) as server,
            model_for(server.base_url) as model,
        ):
            answers = await asyncio.gather(*(collect(model) for _ in range(4)))
        assert all(isinstance(events[-1], StreamEnd) for events in answers)

    async def test_the_limit_on_tokens_survives_under_its_newer_name(self) -> None:
        async with (
            ModelServer(Script(refused_parameters=("max_tokens", "temperature"))) as server,
            model_for(server.base_url) as model,
        ):
            await collect(model)
        assert server.requests[-1].body["max_completion_tokens"] == 50

    async def test_another_refused_parameter_is_not_tried_twice(self) -> None:
        assert (await unavailable(Script(refused_parameters=("messages",)))).reason is FailureReason.REJECTED


class TestTolerance:
    async def test_usage_is_taken_from_the_stream(self) -> None:
        _, end = await answer(Script(tokens=("a", "b")))
        assert (end.prompt_tokens, end.completion_tokens) == (5, 2)

    async def test_no_usage_counts_as_zero(self) -> None:
        text, end = await answer(Script(tokens=("a", "b"), usage=False))
        assert text == "ab"
        assert (end.prompt_tokens, end.completion_tokens) == (0, 0)

    async def test_done_without_a_finish_reason_means_stop(self) -> None:
        text, end = await answer(Script(tokens=("a", "b"), finish_reason=None))
        assert (text, end.finish_reason) == ("ab", "stop")

    async def test_a_finish_reason_without_done_ends_the_answer(self) -> None:
        text, end = await answer(Script(tokens=("a", "b"), finish_reason="length", done=False))
        assert (text, end.finish_reason) == ("ab", "length")

    @pytest.mark.parametrize(
        ("said", "meant"),
        [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("eos_token", "stop")],
    )
    async def test_a_finish_reason_is_one_of_three(self, said: str, meant: str) -> None:
        _, end = await answer(Script(finish_reason=said))
        assert end.finish_reason == meant

    async def test_empty_choices_and_comments_are_passed_over(self) -> None:
        text, _ = await answer(Script(tokens=("a", "b"), comments=True, empty_choices=True))
        assert text == "ab"

    async def test_a_slow_drip_within_the_limits_is_an_answer(self) -> None:
        text, _ = await answer(Script(tokens=tuple("Muraho neza"), delay=0.01))
        assert text == "Muraho neza"

    async def test_an_answer_without_text_is_only_an_end(self) -> None:
        text, end = await answer(Script(tokens=()))
        assert (text, end.finish_reason, end.completion_tokens) == ("", "stop", 0)

    async def test_a_computed_answer_comes_whole(self) -> None:
        text, _ = await answer(Script(answer=last_message))
        assert text == "What is photosynthesis?"

    async def test_text_that_utf8_or_postgresql_cannot_hold_is_cleaned(self) -> None:
        text, _ = await answer(Script(tokens=("a\ud83d", "b\x00c", "é😀")))
        assert text == "a?bcé😀"

    async def test_a_server_that_never_closes_after_the_end_costs_no_error(self) -> None:
        script = Script(tokens=("a",), end_gate=asyncio.Event())
        timeouts = StreamTimeouts(between_tokens=60, after_finish=0.2)
        async with ModelServer(script) as server, model_for(server.base_url, timeouts=timeouts) as model:
            assert [type(event) for event in await collect(model)] == [TextDelta, StreamEnd]


class TestFaultsBeforeTheFirstToken:
    async def test_a_refused_connection_is_unavailable(self) -> None:
        with refused_port() as port:
            async with model_for(f"http://127.0.0.1:{port}/v1") as model:
                with pytest.raises(ModelUnavailable) as caught:
                    await collect(model)
        assert caught.value.reason is FailureReason.CONNECTION

    async def test_a_rate_limit_carries_its_seconds(self) -> None:
        error = await unavailable(Script(status=429, retry_after="7"))
        assert (error.reason, error.retry_after) == (FailureReason.RATE_LIMITED, 7.0)

    async def test_a_rate_limit_carries_its_date_as_seconds(self) -> None:
        moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
        error = await unavailable(Script(status=429, retry_after=email.utils.format_datetime(moment, usegmt=True)))
        assert error.retry_after is not None
        assert 60 < error.retry_after <= 90

    @pytest.mark.parametrize("value", ["soon", "nan", "inf", "", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"])
    async def test_an_unreadable_retry_after_is_none(self, value: str) -> None:
        assert (await unavailable(Script(status=429, retry_after=value))).retry_after is None

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (500, FailureReason.SERVER_ERROR),
            (503, FailureReason.SERVER_ERROR),
            (401, FailureReason.CREDENTIALS),
            (403, FailureReason.CREDENTIALS),
            (404, FailureReason.REJECTED),
            (400, FailureReason.REJECTED),
            (307, FailureReason.REJECTED),
        ],
    )
    async def test_a_status_has_its_reason(self, status: int, reason: FailureReason) -> None:
        assert (await unavailable(Script(status=status))).reason is reason

    @pytest.mark.parametrize("status", [400, 422])
    @pytest.mark.parametrize("param", [["temperature"], {"name": "temperature"}, 7, True])
    async def test_a_refused_parameter_that_is_no_name_is_a_rejection(self, status: int, param: object) -> None:
        error = await unavailable(Script(status=status, error={"message": "no", "param": param}))
        assert error.reason is FailureReason.REJECTED

    async def test_a_question_is_not_carried_elsewhere_by_a_redirect(self) -> None:
        async with ModelServer() as elsewhere:
            headers = {"Location": f"{elsewhere.base_url}/chat/completions"}
            assert (await unavailable(Script(status=307, headers=headers))).reason is FailureReason.REJECTED
        assert elsewhere.requests == []

    async def test_a_stall_before_the_headers_times_out(self) -> None:
        error = await unavailable(Script(fault=Fault.STALL), timeouts=HURRIED_FIRST)
        assert error.reason is FailureReason.TIMEOUT

    async def test_a_stall_after_the_headers_times_out(self) -> None:
        error = await unavailable(Script(gates={0: asyncio.Event()}), timeouts=HURRIED_FIRST)
        assert error.reason is FailureReason.TIMEOUT

    async def test_comments_are_no_tokens_and_do_not_put_off_the_time_out(self) -> None:
        error = await unavailable(Script(fault=Fault.KEEP_ALIVE), timeouts=HURRIED_FIRST)
        assert error.reason is FailureReason.TIMEOUT

    async def test_a_cut_is_unavailable(self) -> None:
        assert (await unavailable(Script(fault=Fault.CUT))).reason is FailureReason.CONNECTION

    @pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.END, Fault.FLOOD])
    async def test_what_is_not_the_protocol_is_an_invalid_response(self, fault: Fault) -> None:
        assert (await unavailable(Script(fault=fault))).reason is FailureReason.INVALID_RESPONSE

    async def test_an_error_object_under_status_200_is_unavailable(self) -> None:
        assert (await unavailable(Script(fault=Fault.ERROR))).reason is FailureReason.SERVER_ERROR

    async def test_an_error_object_may_be_a_rate_limit(self) -> None:
        error = await unavailable(Script(fault=Fault.ERROR, error={"code": 429, "message": "slow down"}))
        assert error.reason is FailureReason.RATE_LIMITED

    async def test_a_body_that_is_no_event_stream_is_an_invalid_response(self) -> None:
        error = await unavailable(Script(headers={"Content-Type": "text/html"}))
        assert error.reason is FailureReason.INVALID_RESPONSE

    async def test_a_compressed_body_is_an_invalid_response(self) -> None:
        error = await unavailable(Script(headers={"Content-Encoding": "gzip"}))
        assert error.reason is FailureReason.INVALID_RESPONSE

    async def test_an_endless_error_body_is_an_invalid_response(self) -> None:
        error = await unavailable(Script(status=500, error={"message": "x" * 2_000_000}))
        assert error.reason is FailureReason.INVALID_RESPONSE


class TestFaultsAfterTheFirstToken:
    async def test_a_stall_breaks_the_stream(self) -> None:
        error = await broken(Script(fault=Fault.STALL, fault_after=1), timeouts=HURRIED_BETWEEN)
        assert error.reason is FailureReason.TIMEOUT

    async def test_a_cut_breaks_the_stream(self) -> None:
        assert (await broken(Script(fault=Fault.CUT, fault_after=2))).reason is FailureReason.CONNECTION

    async def test_a_body_that_ends_in_good_order_but_too_early_breaks_the_stream(self) -> None:
        assert (await broken(Script(fault=Fault.END, fault_after=2))).reason is FailureReason.INVALID_RESPONSE

    async def test_garbage_breaks_the_stream(self) -> None:
        assert (await broken(Script(fault=Fault.GARBAGE, fault_after=1))).reason is FailureReason.INVALID_RESPONSE

    async def test_an_error_object_breaks_the_stream(self) -> None:
        assert (await broken(Script(fault=Fault.ERROR, fault_after=1))).reason is FailureReason.SERVER_ERROR

    async def test_a_flood_breaks_the_stream(self) -> None:
        assert (await broken(Script(fault=Fault.FLOOD, fault_after=1))).reason is FailureReason.INVALID_RESPONSE

    async def test_an_answer_without_end_is_cut_at_its_size(self) -> None:
        script = Script(tokens=("word " * 100,) * 1000)
        async with ModelServer(script) as server, model_for(server.base_url, max_response_bytes=50_000) as model:
            with pytest.raises(ModelStreamBroken) as caught:
                await collect(model)
        assert caught.value.reason is FailureReason.INVALID_RESPONSE

    async def test_an_answer_without_end_is_cut_at_its_time(self) -> None:
        error = await broken(Script(tokens=("a",) * 100_000, delay=0.02), timeouts=StreamTimeouts(whole=0.5))
        assert error.reason is FailureReason.TIMEOUT

    async def test_the_model_that_wrote_the_beginning_is_named(self) -> None:
        error = await broken(Script(fault=Fault.CUT, fault_after=2))
        _, end = await answer(Script())
        assert error.model == end.model


class TestClosing:
    async def test_a_closed_stream_closes_the_connection(self) -> None:
        async with ModelServer(Script(gates={1: asyncio.Event()})) as server, model_for(server.base_url) as model:
            async with asyncio.timeout(10):
                async with contextlib.aclosing(model.stream(REQUEST)) as events:
                    await anext(events)
                await server.requests[0].disconnected.wait()

    async def test_a_loop_that_is_left_closes_the_connection(self) -> None:
        async with ModelServer(Script(gates={1: asyncio.Event()})) as server, model_for(server.base_url) as model:
            async with asyncio.timeout(10):
                async for _ in model.stream(REQUEST):
                    break
                gc.collect()
                await server.requests[0].disconnected.wait()

    @pytest.mark.parametrize("gate", [0, 1], ids=["before the first token", "between tokens"])
    async def test_a_cancelled_consumer_closes_the_connection(self, gate: int) -> None:
        started = asyncio.Event()

        def answer_and_tell(_: Messages) -> str:
            started.set()
            return "two words"

        script = Script(answer=answer_and_tell, gates={gate: asyncio.Event()})
        async with ModelServer(script) as server, model_for(server.base_url) as model:
            consumer = asyncio.create_task(collect(model))
            async with asyncio.timeout(10):
                await started.wait()
                consumer.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await consumer
                await server.requests[0].disconnected.wait()


class TestSecrets:
    def test_the_key_is_in_no_repr(self) -> None:
        config = ProviderConfig("http://127.0.0.1:1/v1", model="m", name="n", api_key=SecretStr(KEY))
        assert KEY not in repr(config) + str(config) + repr(OpenAICompatible(config))

    @pytest.mark.parametrize("key", ["sk-clé-secrète", "sk-two\nlines"])
    def test_a_key_that_no_header_can_hold_is_refused_without_being_told(self, key: str) -> None:
        config = ProviderConfig("http://127.0.0.1:1/v1", model="m", name="n", api_key=SecretStr(key))
        with pytest.raises(ValueError, match="API key of provider 'n'") as caught:
            OpenAICompatible(config)
        assert key not in str(caught.value)

    async def test_a_server_that_quotes_the_key_does_not_put_it_into_the_error(self) -> None:
        async with ModelServer(api_key="sk-another") as server, model_for(server.base_url) as model:
            with pytest.raises(ModelUnavailable) as caught:
                await collect(model)
        error = caught.value
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error) + error.detail
        assert KEY not in told
        assert error.__cause__ is None
        assert error.__context__ is None

    async def test_a_failure_is_logged_with_provider_reason_cause_and_duration_only(self) -> None:
        with structlog.testing.capture_logs() as logs:
            await broken(Script(tokens=("private answer",), fault=Fault.ERROR, fault_after=1))
        assert len(logs) == 1
        duration = logs[0].pop("duration")
        assert 0 <= duration < 15
        assert logs == [
            {
                "event": "llm_provider_failed",
                "log_level": "warning",
                "provider": "loopback",
                "reason": "server_error",
                "cause": "ServerReportedError",
                "after_first_token": True,
            }
        ]
