"""Several models in order: the next is asked where one cannot begin."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from bwenge.providers.llm.base import (
    ChatRequest,
    FailureReason,
    LanguageModel,
    ModelFailure,
    ModelStreamBroken,
    ModelUnavailable,
    StreamEnd,
    StreamEvent,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CircuitPolicy:
    """When a provider is set aside, in seconds where not said otherwise.

    Args:
        threshold: Failures in a row that open the circuit.
        open_for: How long an open circuit lets nobody through; then one request probes the provider.
        rate_limit_default: How long after a 429 that names no time.
        retry_after_cap: The longest that a server's Retry-After is believed.
    """

    threshold: int = 3
    open_for: float = 20.0
    rate_limit_default: float = 5.0
    retry_after_cap: float = 60.0


class _Circuit:
    """Health of one provider, by the circuit-breaker pattern (closed, open, half-open with a single probe)."""

    def __init__(self, policy: CircuitPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._aside_until = float("-inf")
        self._probing = False

    def refuses_for(self, now: float) -> float | None:
        """Seconds until the provider may be asked again; None when it may be asked now."""
        if now < self._aside_until:
            return self._aside_until - now
        # How long a probe takes is not known; a second is when it is worth asking about it again.
        return 1.0 if self._probing else None

    def begin(self) -> None:
        self._probing = self._failures >= self._policy.threshold

    def settle(self) -> None:
        """The attempt has begun to answer, or its consumer went away: others need not wait for it."""
        self._probing = False

    def succeed(self) -> None:
        self._failures = 0

    def fail(self, failure: ModelFailure, now: float) -> float:
        """Count a failure; returns the seconds for which the provider is set aside, 0 for none."""
        aside = 0.0
        if failure.reason is FailureReason.RATE_LIMITED:
            aside = failure.retry_after or self._policy.rate_limit_default
        elif failure.reason is not FailureReason.REJECTED:
            # A request that the provider refuses says nothing about the next person's.
            self._failures += 1
            aside = failure.retry_after or 0.0
            if self._failures >= self._policy.threshold:
                aside = max(aside, self._policy.open_for)
        aside = min(aside, self._policy.retry_after_cap)
        self._aside_until = max(self._aside_until, now + aside)
        return aside


class OrderedFallback:
    """Asks each model in turn until one begins to answer: until it says something that can be seen.

    Only the first model is asked for the model that a request names: the name means something to the provider that
    it was chosen from, and the others answer with their own. A stream that breaks after its first token is not
    restarted elsewhere.
    """

    def __init__(
        self,
        models: Sequence[LanguageModel],
        *,
        policy: CircuitPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = "fallback",
    ) -> None:
        if not models:
            raise ValueError("an ordered fallback needs at least one model")
        policy = policy or CircuitPolicy()
        self.name = name
        self._clock = clock
        self._providers = [(model, _Circuit(policy)) for model in models]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        failures: list[ModelUnavailable] = []
        for position, (model, circuit) in enumerate(self._providers):
            wait = circuit.refuses_for(self._clock())
            if wait is not None:
                failures.append(ModelUnavailable(model.name, FailureReason.SET_ASIDE, retry_after=wait))
                continue
            wanted = request if position == 0 else replace(request, model=None)
            try:
                async with contextlib.aclosing(self._attempt(model, circuit, request=wanted)) as events:
                    async for event in events:
                        yield event
            except ModelUnavailable as failure:
                failures.append(failure)
            else:
                return
        raise self._all_failed(failures)

    async def _attempt(
        self, model: LanguageModel, circuit: _Circuit, *, request: ChatRequest
    ) -> AsyncGenerator[StreamEvent, None]:
        """One model's stream, and its circuit told how that went.

        Raises:
            ModelUnavailable: Nothing was yielded.
            ModelStreamBroken: Something was.
        """
        circuit.begin()
        has_begun = False
        try:
            async with contextlib.aclosing(_from_first_word(model, request)) as events:
                async for event in events:
                    if isinstance(event, StreamEnd):
                        circuit.succeed()
                    else:
                        circuit.settle()
                    has_begun = True
                    yield event
        except ModelFailure as failure:
            aside = circuit.fail(failure, self._clock())
            if aside:
                log.warning("llm_provider_set_aside", provider=model.name, reason=failure.reason.value, seconds=aside)
            if has_begun and not isinstance(failure, ModelStreamBroken):
                raise ModelStreamBroken(model.name, failure.reason, retry_after=failure.retry_after) from None
            raise
        except (GeneratorExit, asyncio.CancelledError):
            if has_begun:
                # The reader went away from a model that was answering.
                circuit.succeed()
            raise
        finally:
            circuit.settle()

    def _all_failed(self, failures: Sequence[ModelUnavailable]) -> ModelUnavailable:
        waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
        return ModelUnavailable(
            self.name,
            FailureReason.ALL_FAILED,
            retry_after=min(waits, default=None),
            failures=tuple(failures),
        )


async def _from_first_word(model: LanguageModel, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
    """The stream, given out from its first visible text on: before that, nobody has seen anything of it.

    Raises:
        ModelUnavailable: Also where the model ended or broke off without a word.
        ModelStreamBroken
    """
    blank: list[StreamEvent] | None = []
    try:
        async with contextlib.aclosing(model.stream(request)) as events:
            async for event in events:
                if blank is not None:
                    blank.append(event)
                    if isinstance(event, StreamEnd):
                        raise ModelUnavailable(model.name, _reason_of_silence(event))
                    if event.text.isspace():
                        continue
                    early, blank = blank, None
                    for held in early:
                        yield held
                else:
                    yield event
    except ModelStreamBroken as failure:
        if blank is None:
            raise
        raise ModelUnavailable(model.name, failure.reason, retry_after=failure.retry_after) from failure


def _reason_of_silence(end: StreamEnd) -> FailureReason:
    """A filter speaks of this question alone; a model that says nothing else will say nothing again."""
    return FailureReason.REJECTED if end.finish_reason == "content_filter" else FailureReason.INVALID_RESPONSE
