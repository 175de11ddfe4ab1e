"""`WS /ws/chat`: one reader and one writer to a socket. What is said over it stands in the chat protocol."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, cast
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected

from bwenge.chat.hub import Outlet
from bwenge.chat.protocol import (
    CLOSE_CODE_OF,
    MAX_FRAME_BYTES,
    Cancel,
    ClientFrame,
    CloseCode,
    Detail,
    HistoryMessage,
    Ping,
    Pong,
    Refusal,
    UserMessage,
    error_facts,
    parse_frame,
)
from bwenge.chat.service import ChatService, SocketRequest
from bwenge.chat.turn_records import Question
from bwenge.kit.errors import BwengeError, Invalid, NotFound, Unauthenticated
from bwenge.kit.http.dependencies import provided
from bwenge.kit.http.problems import problem_response
from bwenge.kit.http.security import identify
from bwenge.kit.identity import Principal, member

_log = structlog.get_logger(__name__)

FRAMES_PER_SECOND: Final = 50
FRAME_BURST: Final = 100
_CLOSE_SECONDS: Final = 5.0
"""How long a socket may take to send what is queued before its close frame."""

router = APIRouter()


@router.websocket("/ws/chat")
async def chat(websocket: WebSocket, service: Annotated[ChatService, Depends(provided(ChatService))]) -> None:
    """Speak the chat protocol. What is refused before the handshake is answered as problem+json."""
    try:
        token = _token(websocket)
        principal = member(await identify(websocket, token))
        request = _socket_request(websocket)
        outlet = await service.open(principal, request)
    except BwengeError as error:
        # Unknown, foreign, deleted and malformed ids give this one answer.
        refusal = NotFound() if isinstance(error, NotFound) else error
        await websocket.send_denial_response(problem_response(refusal))
        return
    try:
        await websocket.accept()
        speaker = Speaker(principal, persona_id=request.persona_id, recheck=lambda: identify(websocket, token))
        await ChatSocket(websocket, outlet, service=service, speaker=speaker).run()
    finally:
        service.leave(outlet)


class Speaker:
    """Who asks over a socket. The token, which the socket may outlive, is checked again before the first question."""

    def __init__(self, principal: Principal, *, persona_id: UUID, recheck: Callable[[], Awaitable[object]]) -> None:
        self.principal = principal
        self.persona_id = persona_id
        self._recheck: Callable[[], Awaitable[object]] | None = recheck

    async def has_valid_token(self) -> bool:
        if self._recheck is not None:
            try:
                await self._recheck()
            except Unauthenticated:
                return False
            self._recheck = None
        return True


class ChatSocket:
    """An accepted socket. Its end is not the end of its session's turn."""

    def __init__(self, websocket: WebSocket, outlet: Outlet, *, service: ChatService, speaker: Speaker) -> None:
        self._websocket = websocket
        self._outlet = outlet
        self._service = service
        self._speaker = speaker
        self._frames_left: float = FRAME_BURST
        self._paced_at = time.monotonic()

    async def run(self) -> None:
        """Return when either side has closed the socket."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        closing = asyncio.create_task(self._outlet.closing.wait())
        try:
            await asyncio.wait({reader, writer, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not reader.done() and not writer.done():
                # A client that reads nothing would keep the writer for ever.
                await asyncio.wait({reader, writer}, timeout=_CLOSE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, writer, closing):
                task.cancel()
            results = await asyncio.gather(reader, writer, closing, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _write(self) -> None:
        try:
            while not isinstance(item := await self._outlet.next(), CloseCode):
                await self._websocket.send_text(item)
            await self._websocket.close(item)
        except (WebSocketDisconnect, WebSocketDisconnected):
            return

    async def _read(self) -> None:
        while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
            if not self._outlet.closing.is_set():
                await self._take(message)
            await self._pace()

    async def _pace(self) -> None:
        """Let others have the event loop after each frame, and read a flood no faster than any person types.

        What is not read stays with the client: its own sending comes to a halt.
        """
        now = time.monotonic()
        self._frames_left = min(FRAME_BURST, self._frames_left + (now - self._paced_at) * FRAMES_PER_SECOND) - 1
        self._paced_at = now
        await asyncio.sleep(0 if self._frames_left > 0 else 1 / FRAMES_PER_SECOND)

    async def _take(self, message: Message) -> None:
        text: str | None = message.get("text")
        if text is None:
            self._outlet.close(CloseCode.BINARY)
        elif len(text.encode()) > MAX_FRAME_BYTES:
            self._outlet.close(CloseCode.TOO_LARGE)
        else:
            try:
                await self._handle(parse_frame(text))
            except BwengeError as error:
                self._refuse(error)
            except Exception as error:  # noqa: BLE001  # one frame's failure is told, and the socket stays
                _log.error("frame_failed", exc_info=error)
                self._refuse(BwengeError())

    async def _handle(self, frame: ClientFrame) -> None:
        match frame:
            case UserMessage():
                await self._ask(frame)
            case Cancel(turn_id=turn_id):
                self._service.cancel(self._outlet.session_id, turn_id)
            case Ping():
                self._outlet.send(Pong(session_id=self._outlet.session_id))

    async def _ask(self, frame: UserMessage) -> None:
        if not await self._speaker.has_valid_token():
            self._outlet.close(CloseCode.TOKEN_EXPIRED)
            return
        session_id = self._outlet.session_id
        question = Question(
            session_id=session_id,
            persona_id=self._speaker.persona_id,
            content=frame.content,
            client_msg_id=frame.client_msg_id,
        )
        for message in await self._service.ask(self._speaker.principal, question):
            self._outlet.send(HistoryMessage(session_id=session_id, message=message))

    def _refuse(self, error: BwengeError) -> None:
        code = CLOSE_CODE_OF.get(type(error))
        if code is not None:
            self._outlet.close(code)
        else:
            self._outlet.send(Refusal(session_id=self._outlet.session_id, **error_facts(error).fields()))


def _token(websocket: WebSocket) -> str:
    """The access token or API key of the header, else of the query, which browsers need."""
    scheme, _, credentials = websocket.headers.get("authorization", "").partition(" ")
    token = credentials.strip() if scheme.lower() == "bearer" else websocket.query_params.get("token", "")
    if not token:
        raise Unauthenticated
    return token


def _socket_request(websocket: WebSocket) -> SocketRequest:
    query = websocket.query_params
    detail = query.get("detail", "full")
    if detail not in {"full", "text"}:
        raise Invalid(errors=[{"field": "detail", "code": "invalid", "message": "detail is full or text"}])
    session_id = query.get("session_id")
    return SocketRequest(
        persona_id=_uuid(query.get("persona_id", "")),
        session_id=None if session_id is None else _uuid(session_id),
        detail=cast("Detail", detail),
    )


def _uuid(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise NotFound from error
