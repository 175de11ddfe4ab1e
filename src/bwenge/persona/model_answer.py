"""A language model's answer as it may be shown: without the word that declines and without invented markers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from bwenge.persona.contract import ReplyFinish, Usage
from bwenge.persona.declining import DeclineGate
from bwenge.persona.markers import MarkerFilter
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

_DECLINED_SECONDS: Final = 2.0
"""How long a model that has declined is given to end: its end names it and counts its tokens."""


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """Text, and the markers that appear in it for the first time."""

    text: str
    markers: tuple[int, ...] = ()


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
) -> AsyncGenerator[AnswerPiece | AnswerEnd, None]:
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
                if piece := screen.pass_on(event.text):
                    yield piece
                if screen.is_declined:
                    end = await _end_of(events)
                    break
    except ModelStreamBroken as failure:
        if not screen.has_begun:
            raise ModelUnavailable(failure.provider, failure.reason, retry_after=failure.retry_after) from failure
        written_by = failure.model or request.model or model.name
        yield AnswerEnd(screen.used, written_by, finish_reason="error", error_code=failure.code)
        return
    if piece := screen.finish():
        yield piece
    if not (screen.has_begun or screen.is_declined):
        raise ModelUnavailable(model.name, FailureReason.INVALID_RESPONSE)
    yield _ended(end, screen, name=request.model or model.name)


async def _end_of(events: AsyncIterator[StreamEvent]) -> StreamEnd | None:
    """The end of an answer whose rest nobody wants; None where the model talks on or breaks off."""
    with suppress(TimeoutError, ModelFailure):
        async with asyncio.timeout(_DECLINED_SECONDS):
            async for event in events:
                if isinstance(event, StreamEnd):
                    return event
    return None


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
        self._told = 0
        self.has_begun = False

    @property
    def is_declined(self) -> bool:
        return self._gate.is_declined

    @property
    def used(self) -> tuple[int, ...]:
        return self._filter.used

    def pass_on(self, delta: str) -> AnswerPiece | None:
        return self._visible(self._filter.feed(self._gate.feed(delta)))

    def finish(self) -> AnswerPiece | None:
        return self._visible(self._filter.feed(self._gate.finish()) + self._filter.finish())

    def _visible(self, text: str) -> AnswerPiece | None:
        if not self.has_begun:
            text = text.lstrip()
        if not text:
            return None
        self.has_begun = True
        new = self.used[self._told :]
        self._told += len(new)
        return AnswerPiece(text, new)
