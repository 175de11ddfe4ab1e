"""Chat completions of any server that speaks OpenAI's protocol: OpenAI, Gemini, Ollama, vLLM, llama.cpp, LM Studio.

The SDK makes the request; its events are read here (`answer_stream`), because the SDK's chunk iterator does not tell
`[DONE]` from a body that merely stopped, and builds its types without validation.
"""

import asyncio
import contextlib
import datetime as dt
import email.utils
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import structlog
from pydantic import SecretStr

from bwenge.providers.llm.answer_stream import AnswerStream, InvalidResponse, ServerReportedError
from bwenge.providers.llm.base import (
    ChatRequest,
    FailureReason,
    ModelFailure,
    ModelStreamBroken,
    ModelUnavailable,
    StreamEvent,
    TextDelta,
)

log = structlog.get_logger(__name__)

_ADAPTABLE_PARAMETERS = frozenset({"max_tokens", "temperature", "stream_options"})
"""Parameters that some server refuses (OpenAI's reasoning models the first two) and that an answer can do without."""

_DRAIN_SECONDS = 0.1
"""How long to wait after `[DONE]` for the end of the body, without which the connection cannot be used again."""

_STATUS_REASONS = {
    401: FailureReason.CREDENTIALS,
    403: FailureReason.CREDENTIALS,
    408: FailureReason.TIMEOUT,
    429: FailureReason.RATE_LIMITED,
}


@dataclass(frozen=True)
class ProviderConfig:
    """One OpenAI-compatible server.

    Args:
        base_url: Up to and with the version, such as `http://127.0.0.1:11434/v1`.
        model: What is asked for where a request names no model.
        name: How logs and errors call the provider.
        api_key: None for servers that ask for none.
    """

    base_url: str
    model: str
    name: str
    api_key: SecretStr | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StreamTimeouts:
    """Seconds; `first_token` and `whole` count from the start of the request.

    A token is text of the answer: comments that keep the connection alive and hidden reasoning are none.
    `after_finish` is the wait for usage once the finish reason is known; its end is the answer's, and no failure.
    """

    connect: float = 5.0
    first_token: float = 20.0
    between_tokens: float = 15.0
    after_finish: float = 2.0
    whole: float = 120.0


class OpenAICompatible:
    """A `LanguageModel` behind HTTP. Redirects are not followed, so questions go nowhere else than configured.

    Args:
        max_response_bytes: Bound on a response's body, an error's too; a larger one is an invalid response.
    """

    def __init__(
        self,
        config: ProviderConfig,
        *,
        timeouts: StreamTimeouts | None = None,
        max_response_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self.name = config.name
        self._model = config.model
        self._timeouts = timeouts or StreamTimeouts()
        self._refused: set[tuple[str, str]] = set()
        self._max_response_bytes = max_response_bytes
        self._client = openai.AsyncOpenAI(
            api_key=_header_safe_key(config),
            base_url=config.base_url,
            max_retries=0,
            # Reads are timed here, by token: to the SDK every comment that keeps a connection alive would be progress.
            timeout=openai.Timeout(None, connect=self._timeouts.connect),
            # A compressed body could grow without bound behind the bound on its size.
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [self._bound_body]}
            ),
        )

    def __repr__(self) -> str:
        return f"OpenAICompatible(name={self.name!r}, model={self._model!r})"

    async def aclose(self) -> None:
        """Close the connections; the model cannot be used afterwards."""
        await self._client.close()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        started = time.monotonic()
        answer = AnswerStream(model=request.model or self._model)
        failure: ModelFailure | None = None
        cause = ""
        try:
            async with contextlib.aclosing(self._deltas(request, answer)) as deltas:
                async for text in deltas:
                    yield TextDelta(text)
        except Exception as error:  # noqa: BLE001  # a server can make the SDK trip over anything, and the next one is sound
            if not answer.is_complete:
                failure, cause = self._failure(error, answer), type(error).__name__
        if failure is not None:
            log.warning(
                "llm_provider_failed",
                provider=self.name,
                reason=failure.reason.value,
                cause=cause,
                after_first_token=answer.has_text,
                duration=round(time.monotonic() - started, 3),
            )
            # Raised outside of the handler: the SDK's error holds the request and its key, and must not be the context.
            raise failure
        yield answer.end()

    async def _deltas(self, request: ChatRequest, answer: AnswerStream) -> AsyncGenerator[str, None]:
        """Text as it comes; returns when the body ends, and raises what the SDK or the body gives occasion for."""
        clock = asyncio.get_running_loop().time
        started = clock()
        last_moment = started + self._timeouts.whole
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout_at(min(started + self._timeouts.first_token, last_moment)):
                response = await self._open(stack, request)
                events = await stack.enter_async_context(contextlib.aclosing(_events(response)))
                text = await answer.next_text(events)
            while text is not None:
                if text:
                    yield text
                patience = self._timeouts.after_finish if answer.is_complete else self._timeouts.between_tokens
                async with asyncio.timeout_at(min(clock() + patience, last_moment)):
                    text = await answer.next_text(events)
            if not answer.is_complete:
                raise InvalidResponse("the body ended before the answer did")
            with contextlib.suppress(Exception):  # the answer is whole, whatever comes behind it
                async with asyncio.timeout(_DRAIN_SECONDS):
                    async for _ in events:
                        pass

    async def _open(self, stack: contextlib.AsyncExitStack, request: ChatRequest) -> httpx2.Response:
        """The response with its headers read; the stack closes it.

        Parameters that the server refuses by name are remembered and left out from then on.
        """
        completions = self._client.chat.completions.with_streaming_response
        while True:
            parameters = self._parameters(request)
            try:
                opened = await stack.enter_async_context(completions.create(**parameters))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = error.param
                # What the server wrote there may be any JSON.
                if not isinstance(refused, str) or refused not in _ADAPTABLE_PARAMETERS & parameters.keys():
                    raise
                self._refused.add((parameters["model"], refused))
            else:
                response: httpx2.Response = opened.http_response
                return response

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        model = request.model or self._model
        optional = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream_options": {"include_usage": True},
        }
        parameters = {name: value for name, value in optional.items() if (model, name) not in self._refused}
        if "max_tokens" not in parameters:
            parameters["max_completion_tokens"] = request.max_tokens
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        return {"model": model, "messages": messages, "stream": True, **parameters}

    def _failure(self, error: BaseException, answer: AnswerStream) -> ModelFailure:
        reason, retry_after = _reason(error), _retry_after(error)
        if answer.has_text:
            return ModelStreamBroken(self.name, reason, retry_after=retry_after, model=answer.model)
        return ModelUnavailable(self.name, reason, retry_after=retry_after)

    async def _bound_body(self, response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise InvalidResponse("the body is compressed although that was not accepted")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _BoundedBody(response.stream, self._max_response_bytes)


class _BoundedBody(httpx2.AsyncByteStream):
    def __init__(self, body: httpx2.AsyncByteStream, limit: int) -> None:
        self._body = body
        self._left = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            self._left -= len(part)
            if self._left < 0:
                raise InvalidResponse("the body is larger than allowed")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


async def _events(response: httpx2.Response) -> AsyncGenerator[str, None]:
    """Data of each server-sent event; comments and events without data are passed over."""
    async for event in httpx2.EventSource(response):
        if event.data:
            yield event.data


def _header_safe_key(config: ProviderConfig) -> str:
    """The key, stripped of the newline that files end with.

    A key that no header can hold is refused here: the error of the HTTP layer would quote it.
    """
    key = config.api_key.get_secret_value().strip() if config.api_key else ""
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"the API key of provider {config.name!r} has characters that no HTTP header can hold")
    # Servers without keys ignore this; the SDK would otherwise look for a key in the environment.
    return key or "none"


def _status_reason(status: int) -> FailureReason:
    known = _STATUS_REASONS.get(status)
    if known is not None:
        return known
    return FailureReason.SERVER_ERROR if status >= 500 else FailureReason.REJECTED


def _reason(error: BaseException) -> FailureReason:
    if isinstance(error, openai.APIStatusError):
        return _status_reason(error.status_code)
    if isinstance(error, ServerReportedError):
        return _status_reason(error.status)
    if isinstance(error, TimeoutError | openai.APITimeoutError | httpx2.TimeoutException):
        return FailureReason.TIMEOUT
    if isinstance(error, httpx2.SSEError | httpx2.DecodingError):
        return FailureReason.INVALID_RESPONSE
    if isinstance(error, openai.APIError | httpx2.HTTPError):
        return FailureReason.CONNECTION
    return FailureReason.INVALID_RESPONSE


def _retry_after(error: BaseException) -> float | None:
    """Seconds by either form of a Retry-After header (RFC 9110, section 10.2.3); None if absent or unreadable."""
    if not isinstance(error, openai.APIStatusError):
        return None
    value = error.response.headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        seconds = (moment - dt.datetime.now(dt.UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
