"""The open sockets of this process, and the frames on their way to each."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from bwenge.chat.detail import SentenceJoiner
from bwenge.chat.errors import TooManySockets
from bwenge.chat.protocol import CloseCode, Detail, NumberedFrame, ServerFrame


@dataclass(frozen=True, slots=True)
class QueueLimits:
    frames: int
    bytes: int


class Outlet:
    """The outgoing queue of one socket. Never blocks whoever publishes; a reader that falls behind is closed.

    Until `greet`, live frames are held back: the greeting tells what is stored, and the frames follow it.
    """

    def __init__(self, *, user_id: UUID, session_id: UUID, detail: Detail, limits: QueueLimits) -> None:
        self.user_id = user_id
        self.session_id = session_id
        self._limits = limits
        self._joiner = SentenceJoiner() if detail == "text" else None
        self._early: list[ServerFrame] | None = []
        self._floor = 0
        self._queue: deque[str] = deque()
        self._queued_bytes = 0
        self._close_code: CloseCode | None = None
        self._ready = asyncio.Event()
        self.closing = asyncio.Event()

    def greet(self, greeting: Sequence[ServerFrame], *, floor: int) -> None:
        """Send the greeting, then live frames whose number is above `floor`, which the greeting covers."""
        for frame in greeting:
            self.send(frame)
        early, self._early = self._early or [], None
        self._floor = floor
        for frame in early:
            self.publish(frame)

    def publish(self, frame: ServerFrame) -> None:
        """Take a live frame of the session."""
        if self._early is not None:
            self._early.append(frame)
            return
        if isinstance(frame, NumberedFrame) and frame.seq <= self._floor:
            return
        for piece in (frame,) if self._joiner is None else self._joiner.feed(frame):
            self.send(piece)

    def send(self, frame: ServerFrame) -> None:
        """Put a frame into the queue as it is."""
        if self._close_code is not None:
            return
        encoded = frame.encode()
        self._queue.append(encoded)
        self._queued_bytes += len(encoded.encode())
        if len(self._queue) > self._limits.frames or self._queued_bytes > self._limits.bytes:
            self._queue.clear()
            self.close(CloseCode.SLOW_READER)
        self._ready.set()

    def close(self, code: CloseCode) -> None:
        """Close the socket once it has sent what is queued; only the first code counts."""
        if self._close_code is None:
            self._close_code = code
            self.closing.set()
            self._ready.set()

    async def next(self) -> str | CloseCode:
        """The next frame to send, or, after the last one, the code to close with."""
        while not self._queue:
            if self._close_code is not None:
                return self._close_code
            self._ready.clear()
            await self._ready.wait()
        encoded = self._queue.popleft()
        self._queued_bytes -= len(encoded.encode())
        return encoded


class SessionHub:
    """Knows the sockets of each session, so that all of them receive each of its frames."""

    def __init__(self, *, sockets_per_user: int) -> None:
        self._sockets_per_user = sockets_per_user
        self._of_session: dict[UUID, set[Outlet]] = {}
        self._of_user: dict[UUID, set[Outlet]] = {}

    def join(self, outlet: Outlet) -> None:
        """Let a socket receive its session's frames from now on.

        Raises:
            TooManySockets: The user has as many as allowed.
        """
        if len(self._of_user.get(outlet.user_id, ())) >= self._sockets_per_user:
            raise TooManySockets
        self._of_user.setdefault(outlet.user_id, set()).add(outlet)
        self._of_session.setdefault(outlet.session_id, set()).add(outlet)

    def leave(self, outlet: Outlet) -> None:
        _remove(self._of_user, outlet.user_id, outlet)
        _remove(self._of_session, outlet.session_id, outlet)

    def publish(self, frame: ServerFrame) -> None:
        for outlet in self._of_session.get(frame.session_id, ()):
            outlet.publish(frame)

    def close_session(self, session_id: UUID, code: CloseCode) -> None:
        for outlet in self._of_session.get(session_id, ()):
            outlet.close(code)

    def session_ids(self) -> list[UUID]:
        return list(self._of_session)


def _remove(outlets: dict[UUID, set[Outlet]], key: UUID, outlet: Outlet) -> None:
    remaining = outlets.get(key, set())
    remaining.discard(outlet)
    if not remaining:
        outlets.pop(key, None)
