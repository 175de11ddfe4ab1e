"""An answer assembled from the events of an OpenAI-compatible server, which is trusted with nothing."""

import json
from collections.abc import AsyncIterator
from typing import Any

from bwenge.providers.llm.base import FinishReason, StreamEnd

_FINISH_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
"""Every other word for the end, of which servers have several, means stop."""


class InvalidResponse(Exception):
    """The server's answer is not the protocol, or is larger than allowed."""


class ServerReportedError(Exception):
    """An error object inside a stream that began with status 200; `status` is 500 where the object gives none."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server reported status {status} inside the stream")
        self.status = status


class AnswerStream:
    """What a server has said so far.

    An answer is complete when the server named a finish reason or sent `[DONE]`. Some servers leave out one of them;
    a body that ends with neither was cut, however well its connection was closed.
    """

    def __init__(self, model: str) -> None:
        self.has_text = False
        self.model = model
        self._done = False
        self._finish_reason: FinishReason | None = None
        self._prompt_tokens = 0
        self._completion_tokens = 0

    @property
    def is_complete(self) -> bool:
        return self._done or self._finish_reason is not None

    def end(self) -> StreamEnd:
        return StreamEnd(
            finish_reason=self._finish_reason or "stop",
            model=self.model,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
        )

    async def next_text(self, events: AsyncIterator[str]) -> str | None:
        """The next piece of text; None at `[DONE]` and where the events end.

        It is empty once, when the answer becomes complete without more text: the caller's patience changes there.

        Raises:
            InvalidResponse: An event is not a JSON object.
            ServerReportedError: An event is an error.
        """
        async for data in events:
            if data.strip() == "[DONE]":
                self._done = True
                return None
            was_complete = self.is_complete
            text = self._take(_json_object(data))
            if text or self.is_complete is not was_complete:
                self.has_text = self.has_text or text != ""
                return text
        return None

    def _take(self, chunk: dict[str, Any]) -> str:
        if chunk.get("error"):
            raise ServerReportedError(_error_status(chunk["error"]))
        if isinstance(chunk.get("model"), str) and chunk["model"]:
            self.model = _encodable(chunk["model"])
        self._take_usage(chunk.get("usage"))
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return ""
        if isinstance(choices[0].get("finish_reason"), str):
            self._finish_reason = _FINISH_REASONS.get(choices[0]["finish_reason"], "stop")
        delta = choices[0].get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        return _encodable(content) if isinstance(content, str) else ""

    def _take_usage(self, usage: object) -> None:
        """The counts are running totals, so the last event that has them is right."""
        if not isinstance(usage, dict):
            return
        self._prompt_tokens = _count(usage.get("prompt_tokens"), self._prompt_tokens)
        self._completion_tokens = _count(usage.get("completion_tokens"), self._completion_tokens)


def _json_object(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        # Raised outside of the handler, whose error quotes the text of the answer.
        raise InvalidResponse("an event is not a JSON object")
    return value


def _error_status(error: object) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else 500


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else otherwise


def _encodable(text: str) -> str:
    """The text without what JSON can carry and UTF-8 or PostgreSQL cannot: lone surrogates and NUL."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
