"""A language model's answer as it may be shown: without the word that declines and without invented markers."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field

from bwenge.persona.contract import ReplyFinish, Usage
from bwenge.persona.declining import DeclineGate
from bwenge.persona.markers import MarkerFilter
from bwenge.providers.llm.base import (
    ChatRequest,
    FailureReason,
    LanguageModel,
    ModelStreamBroken,
    ModelUnavailable,
    StreamEnd,
)


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """How an answer ended; `markers` are those in its text, in the order in which they appeared."""

    markers: tuple[int, ...]
    model: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: ReplyFinish = "stop"
    error_code: str | None = None


async def stream_answer(
    model: LanguageModel, request: ChatRequest, *, markers: Collection[int]
) -> AsyncGenerator[str | AnswerEnd, None]:
    """Pieces of text, the first of which begins with something visible, then one `AnswerEnd`.

    An answer of which nothing is yielded before its end is one that the model declined to give.

    Raises:
        ModelUnavailable: Nothing was yielded: the model failed to begin, broke off too soon or said nothing.
    """
    screen = _Screen(markers)
    end: StreamEnd | None = None
    try:
        async with aclosing(model.stream(request)) as events:
            async for event in events:
                if isinstance(event, StreamEnd):
                    end = event
                    break
                if text := screen.pass_on(event.text):
                    yield text
                if screen.is_declined:
                    break
    except ModelStreamBroken as failure:
        if not screen.has_begun:
            raise ModelUnavailable(failure.provider, failure.reason, retry_after=failure.retry_after) from failure
        yield AnswerEnd(screen.used, request.model or model.name, finish_reason="error", error_code=failure.code)
        return
    if text := screen.finish():
        yield text
    if not (screen.has_begun or screen.is_declined):
        raise ModelUnavailable(model.name, FailureReason.INVALID_RESPONSE)
    yield _ended(end, screen, name=request.model or model.name)


def _ended(end: StreamEnd | None, screen: "_Screen", *, name: str) -> AnswerEnd:
    if end is None:
        return AnswerEnd(screen.used, name)
    return AnswerEnd(
        screen.used,
        end.model,
        usage=Usage(end.prompt_tokens, end.completion_tokens),
        finish_reason="length" if end.finish_reason == "length" else "stop",
    )


class _Screen:
    def __init__(self, markers: Collection[int]) -> None:
        self._gate = DeclineGate()
        self._filter = MarkerFilter(markers)
        self.has_begun = False

    @property
    def is_declined(self) -> bool:
        return self._gate.is_declined

    @property
    def used(self) -> tuple[int, ...]:
        return self._filter.used

    def pass_on(self, delta: str) -> str:
        return self._visible(self._filter.feed(self._gate.feed(delta)))

    def finish(self) -> str:
        return self._visible(self._filter.feed(self._gate.finish()) + self._filter.finish())

    def _visible(self, text: str) -> str:
        if not self.has_begun:
            text = text.lstrip()
        self.has_begun = self.has_begun or bool(text)
        return text
