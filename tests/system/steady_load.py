"""A school at work on a split platform: a few callers, each doing one thing again and again, noting what they hear."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.platform import Caller, ChatSocket

PAUSE_SECONDS: Final = 0.5
PAUSE_BETWEEN_QUESTIONS: Final = 3.2
"""A member may ask twenty times a minute."""
CLOSES_THAT_ASK_TO_COME_BACK: Final = frozenset({1012, 1013})


@dataclass(frozen=True, slots=True)
class Heard:
    """One attempt. `told` is `well`, `retry` (try again, in so many seconds), `cut` (no word at all), or a failure."""

    what: str
    began: float
    ended: float
    told: str


@dataclass
class Load:
    """What was heard, and what the platform said that it had accepted."""

    owner: Caller
    persona_id: str
    heard: list[Heard] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)
    """Session and text of each question whose `message` frame came."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def acts(self) -> dict[str, Callable[[], str]]:
        """One of each service that has something to serve, by its name."""
        return {
            "auth": lambda: self._get("/users/me"),
            "persona": lambda: self._get(f"/personas/{self.persona_id}"),
            "payments": lambda: self._get("/subscriptions/current"),
            "ingest": self._upload,
            "chat": lambda: asyncio.run(self._ask()),
        }

    @contextmanager
    def at_work(self) -> Iterator["Load"]:
        threads = [threading.Thread(target=self._repeat, args=act) for act in self.acts.items()]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    def heard_since(self, moment: float) -> list[Heard]:
        """What has ended after that."""
        return [attempt for attempt in list(self.heard) if attempt.ended >= moment]

    def all_well_since(self, moment: float) -> bool:
        """Whether each has ended well at least once after that, in an attempt that began after it."""
        return {
            attempt.what for attempt in list(self.heard) if attempt.began >= moment and attempt.told == "well"
        } == self.acts.keys()

    def _repeat(self, what: str, act: Callable[[], str]) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                told = act()
            except (
                httpx2.ConnectError,
                httpx2.ReadError,
                httpx2.WriteError,
                httpx2.RemoteProtocolError,
                OSError,
            ) as error:
                told = f"cut ({type(error).__name__})"
            except Exception as error:  # noqa: BLE001  # whatever it is, the test shall show it
                told = f"failed: {error!r}"
            self.heard.append(Heard(what, began, time.monotonic(), told))
            self._stopping.wait(PAUSE_BETWEEN_QUESTIONS if what == "chat" else PAUSE_SECONDS)

    def _get(self, path: str) -> str:
        return _told(self.owner.http.get(path))

    def _upload(self) -> str:
        text = f"The bus to village {uuid4().hex} leaves at noon. It stops at the bridge, where traders wait for it."
        answer = self.owner.http.post(
            "/knowledge/upload",
            data={"persona_id": self.persona_id},
            files={"file": (f"{uuid4().hex}.txt", text.encode())},
        )
        if answer.status_code == httpx2.codes.ACCEPTED:
            self.sources.append(answer.json()["source_id"])
        return _told(answer)

    async def _ask(self) -> str:
        question = f"How deep is the well of Kabuga? {uuid4().hex}"
        try:
            async with self.owner.chat(self.persona_id) as socket:
                return await self._answered(socket, question)
        except InvalidStatus as error:
            return _told_by(error.response.status_code, dict(error.response.headers))
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd is not None else None
            return "retry" if code in CLOSES_THAT_ASK_TO_COME_BACK else f"cut (closed with {code})"

    async def _answered(self, socket: ChatSocket, question: str) -> str:
        await socket.until("session_info")
        await socket.send(type="user_message", content=question, client_msg_id=str(uuid4()))
        while True:
            frame = await socket.receive()
            if frame["type"] == "message" and frame["message"]["sender"] == "user":
                self.questions.append((frame["session_id"], question))
            if frame["type"] == "error":
                return "retry" if frame.get("retry_after") else f"failed: {frame}"
            if frame["type"] == "turn_finished":
                return "well" if frame["finish_reason"] == "stop" else f"failed: {frame}"


def _told(answer: httpx2.Response) -> str:
    return _told_by(answer.status_code, {name.lower(): value for name, value in answer.headers.items()})


def _told_by(status: int, headers: dict[str, Any]) -> str:
    named = {name.lower(): value for name, value in headers.items()}
    if status < 300:
        return "well"
    return "retry" if status == 503 and named.get("retry-after") else f"failed: {status}"
