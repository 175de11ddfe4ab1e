"""The language-model capability: a chat request goes in, text comes out as it is written.

The first `TextDelta` divides a stream. Before it a failure is `ModelUnavailable`, and somebody else may be asked
instead. After it a failure is `ModelStreamBroken`: a reader has seen the beginning, so nobody may start again.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, Protocol

from bwenge.kit.errors import Unavailable

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True)
class ChatMessage:
    role: Role
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One question to a model; `model` of None means the provider's own default."""

    messages: tuple[ChatMessage, ...]
    temperature: float
    max_tokens: int
    model: str | None = None


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer, never empty; always encodable as UTF-8."""

    text: str


@dataclass(frozen=True)
class StreamEnd:
    """The last event of a stream that ended well; token counts are 0 where the server gave none."""

    finish_reason: FinishReason
    model: str
    prompt_tokens: int
    completion_tokens: int


StreamEvent = TextDelta | StreamEnd


class FailureReason(StrEnum):
    """Why a provider failed; the values are stable, for logs and metrics."""

    CONNECTION = "connection"  # refused, reset, cut, or no such host
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CREDENTIALS = "credentials"
    REJECTED = "rejected"  # this request, not the provider: unknown model, too long a prompt
    INVALID_RESPONSE = "invalid_response"  # not the protocol, or larger than allowed
    SET_ASIDE = "set_aside"  # not asked, because it failed a short while ago
    ALL_FAILED = "all_failed"  # of an ordered fallback; its `failures` say more


class ModelFailure(Unavailable):
    """What went wrong with a model, without anything that the server, the prompt or the key said.

    Attributes:
        provider: Name of the provider that failed.
        reason: One of the closed set.
        retry_after: Seconds after which the provider may be asked again, where it is known.
    """

    code: ClassVar[str] = "model_unavailable"
    title: ClassVar[str] = "The language model is not available at the moment"

    def __init__(self, provider: str, reason: FailureReason, *, retry_after: float | None = None) -> None:
        super().__init__(retry_after=retry_after)
        self.provider = provider
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.provider}: {self.reason}"


class ModelUnavailable(ModelFailure):
    """The stream failed before its first token.

    Attributes:
        failures: For an ordered fallback, what each provider failed with, in the order in which they were tried.
    """

    def __init__(
        self,
        provider: str,
        reason: FailureReason,
        *,
        retry_after: float | None = None,
        failures: tuple["ModelUnavailable", ...] = (),
    ) -> None:
        super().__init__(provider, reason, retry_after=retry_after)
        self.failures = failures

    def __str__(self) -> str:
        return "; ".join(map(str, self.failures)) or super().__str__()


class ModelStreamBroken(ModelFailure):
    """The stream failed after its first token, so what was shown is all there is of this answer.

    Attributes:
        model: What wrote that beginning; None where it is not known.
    """

    title: ClassVar[str] = "The language model stopped in the middle of its answer"

    def __init__(
        self, provider: str, reason: FailureReason, *, retry_after: float | None = None, model: str | None = None
    ) -> None:
        super().__init__(provider, reason, retry_after=retry_after)
        self.model = model


class LanguageModel(Protocol):
    @property
    def name(self) -> str: ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Any number of `TextDelta`, then exactly one `StreamEnd`.

        Closing the generator (`contextlib.aclosing`) or cancelling its consumer stops the provider at once.

        Raises:
            ModelUnavailable: Before the first delta.
            ModelStreamBroken: After it.
        """
        ...
