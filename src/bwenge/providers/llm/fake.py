"""A model that says what it was told to say, for tests and demonstrations."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from bwenge.providers.llm.base import ChatRequest, FinishReason, StreamEnd, StreamEvent, TextDelta

Step = str | Exception | asyncio.Event
"""Text is a delta, an exception is raised, an event is waited for before going on."""


class ScriptedModel:
    """Plays the same steps for every request, or the steps that a callable chooses by the request.

    A delta counts as one token, and so does a word of the prompt.

    Attributes:
        requests: Every request received, in order.
    """

    def __init__(
        self,
        script: Sequence[Step] | Callable[[ChatRequest], Sequence[Step]],
        *,
        name: str = "scripted",
        model: str = "scripted-1",
        finish_reason: FinishReason = "stop",
    ) -> None:
        self.name = name
        self.requests: list[ChatRequest] = []
        self._script = script
        self._model = model
        self._finish_reason: FinishReason = finish_reason

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        self.requests.append(request)
        deltas = 0
        for step in self._script(request) if callable(self._script) else self._script:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            elif step:
                deltas += 1
                yield TextDelta(step)
        yield StreamEnd(
            finish_reason=self._finish_reason,
            model=request.model or self._model,
            prompt_tokens=sum(len(message.content.split()) for message in request.messages),
            completion_tokens=deltas,
        )
