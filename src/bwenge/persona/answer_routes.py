"""POST /ai/respond, as one JSON answer or as the chat protocol's frames over server-sent events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse, Response, StreamingResponse

from bwenge.kit.errors import BwengeError, Unavailable
from bwenge.kit.http.dependencies import ActivePrincipal, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.security import members
from bwenge.kit.identity import Principal
from bwenge.kit.ids import new_id
from bwenge.persona.answer_schemas import Answer, RespondRequest
from bwenge.persona.answers import AnswerService
from bwenge.persona.contract import (
    HistoryMessage,
    Reply,
    ReplyAnimation,
    ReplyDelta,
    ReplyEvent,
    ReplyFinish,
    ReplyRequest,
    Usage,
)
from bwenge.persona.errors import ModelUnavailable

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/ai", tags=["answers"])
Answers = Annotated[AnswerService, Depends(provided(AnswerService))]

EVENT_STREAM: Final = "text/event-stream"
_STREAM_DOCS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": Answer,
        "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
        "description": "One answer; with `Accept: text/event-stream`, the chat protocol's frames",
    }
}


@router.post(
    "/respond",
    response_model=Answer,
    dependencies=[members(by_confined_key=True), limited("ai.respond", "60/minute")],
    responses=_STREAM_DOCS | problems(401, 402, 404, 413, 422, 429, 503),
)
async def respond(
    principal: ActivePrincipal,
    answers: Answers,
    body: RespondRequest,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """Answer a question from the persona's material, with citations. Nothing of the question is kept."""
    session_id = body.session_id or str(new_id())
    request = _request(principal, body)
    if EVENT_STREAM not in accept:
        reply = await answers.answer(principal, request)
        return JSONResponse(Answer.of(reply, session_id=session_id).model_dump(mode="json"))
    events = answers.stream(principal, request)
    first = await anext(events)  # what refuses the question refuses it with a status, before the stream begins
    return StreamingResponse(
        _frames(first, events, session_id=session_id),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _request(principal: Principal, body: RespondRequest) -> ReplyRequest:
    return ReplyRequest(
        org_id=principal.org_id,
        persona_id=body.persona_id,
        question=body.user_message,
        history=tuple(HistoryMessage(past.role, past.content) for past in body.context.conversation_history),
    )


async def _frames(first: ReplyEvent, rest: AsyncGenerator[ReplyEvent, None], *, session_id: str) -> AsyncIterator[str]:
    """Server-sent events: each frame's type as the event, its JSON as the data."""
    turn = _Frames(session_id)
    async with aclosing(rest) as events:
        yield turn.started()
        for frame in turn.of(first):
            yield frame
        try:
            async for event in events:
                for frame in turn.of(event):
                    yield frame
        except Exception as error:  # noqa: BLE001  # the status is sent; what is left is to tell the reader and the log
            _log.exception("answer_stream_failed")
            told = error if isinstance(error, BwengeError) else BwengeError()
            for frame in turn.broken(told):
                yield frame


class _Frames:
    """The frames of one turn, numbered as the chat protocol numbers them."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._turn_id = str(new_id())
        self._message_id = str(new_id())
        self._seq = 0

    def started(self) -> str:
        return self._numbered("turn_started", turn_id=self._turn_id, message_id=self._message_id)

    def of(self, event: ReplyEvent) -> list[str]:
        if isinstance(event, ReplyDelta):
            return [self._numbered("delta", turn_id=self._turn_id, text=event.text)]
        if isinstance(event, ReplyAnimation):
            return [self._numbered("animation", turn_id=self._turn_id, animation=event.animation)]
        return self._finished(event)

    def broken(self, error: BwengeError) -> list[str]:
        """The end of a turn that has no reply, under one of the protocol's codes."""
        code = ModelUnavailable.code if isinstance(error, Unavailable) else BwengeError.code
        return [self._error(code, error.detail), self._ended("error", usage=asdict(Usage()))]

    def _error(self, code: str, message: str) -> str:
        return self._numbered("error", turn_id=self._turn_id, code=code, message=message)

    def _ended(self, finish_reason: ReplyFinish, *, usage: dict[str, Any]) -> str:
        return self._numbered("turn_finished", turn_id=self._turn_id, finish_reason=finish_reason, usage=usage)

    def _finished(self, reply: Reply) -> list[str]:
        frames = []
        if reply.error_code is not None:
            frames.append(self._error(reply.error_code, ModelUnavailable.title))
        answer = Answer.of(reply, session_id=self._session_id).model_dump(mode="json")
        shown = ("citations", "animation_hint", "actions", "grounded", "model")
        message = {
            "message_id": self._message_id,
            "sender": "assistant",
            "content": reply.text,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "metadata": {name: answer[name] for name in shown} | {"finish_reason": reply.finish_reason},
        }
        frames.append(self._numbered("message", message=message))
        frames.append(self._ended(reply.finish_reason, usage=answer["usage"]))
        return frames

    def _numbered(self, kind: str, **fields: Any) -> str:
        self._seq += 1
        frame = {"type": kind, "session_id": self._session_id, "seq": self._seq, **fields}
        return f"event: {kind}\ndata: {json.dumps(frame, ensure_ascii=False)}\n\n"
