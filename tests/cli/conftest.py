"""The command line in the test's own process, and a platform that answers it by script."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response

from bwenge.cli import main
from tests.support.logs import logging_restored

PERSONAS = [
    {"persona_id": "018f0000-0000-7000-8000-000000000001", "name": "Gabriel"},
    {"persona_id": "018f0000-0000-7000-8000-000000000002", "name": "Keza"},
]
TOKEN = "token-of-the-learner"


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    complaint: str


Command = Callable[..., Awaitable[Ended]]


@pytest.fixture
def bwenge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Command]:
    """Run a command to its end, with nothing of the developer's own environment."""
    for name in os.environ:
        if name.startswith("BWENGE_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    async def run(*arguments: str, **environment: str) -> Ended:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["bwenge", *arguments])
        code = await asyncio.to_thread(_exit_code)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    with logging_restored(monkeypatch):
        yield run


def _exit_code() -> int:
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


@dataclass
class ScriptedPlatform:
    """What a platform would answer; `frames` is the turn of the next question, `refusals` are by path."""

    url: str = ""
    frames: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, Response] = field(default_factory=dict)
    personas: list[dict[str, str]] = field(default_factory=lambda: list(PERSONAS))
    statuses: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    """Of the documents that a persona has."""
    stays_silent: bool = False
    """Whether it says nothing more after its frames, until the client goes."""

    def answer_with(self, text: str, *citations: dict[str, Any], finish_reason: str = "stop") -> None:
        message = {"sender": "assistant", "content": text, "metadata": {"citations": list(citations)}}
        self.frames = [
            {"type": "delta", "text": text},
            {"type": "message", "message": message},
            {"type": "turn_finished", "finish_reason": finish_reason},
        ]

    def application(self) -> FastAPI:
        app = FastAPI()
        app.add_api_route("/auth/login", self._login, methods=["POST"], response_model=None)
        app.add_api_route("/personas", self._personas, response_model=None)
        app.add_api_route("/personas", self._make_persona, methods=["POST"], response_model=None)
        app.add_api_route("/personas/{persona_id}", self._delete_persona, methods=["DELETE"], response_model=None)
        app.add_api_route("/knowledge/sources", self._sources, response_model=None)
        app.add_api_route("/knowledge/upload", self._upload, methods=["POST"], response_model=None)
        app.add_api_route("/knowledge/{source_id}/status", self._status, response_model=None)
        app.add_api_websocket_route("/ws/chat", self._chat)
        return app

    async def _login(self, request: Request) -> Any:
        self.logins.append((await request.json())["identifier"])
        return self.refusals.get("/auth/login", {"access_token": TOKEN})

    async def _personas(self, request: Request) -> Any:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"detail": "Sign in first", "code": "unauthenticated"}, 401)
        first = int(request.query_params.get("cursor", 0))
        rest = first + 100 < len(self.personas)
        page = {"items": self.personas[first : first + 100], "next_cursor": str(first + 100) if rest else None}
        return self.refusals.get("/personas", page)

    async def _make_persona(self, request: Request) -> Any:
        made = {"persona_id": f"018f0000-0000-7000-8002-{len(self.personas):012}", **await request.json()}
        self.personas.append(made)
        return made

    async def _delete_persona(self, persona_id: str) -> Response:
        self.personas = [persona for persona in self.personas if persona["persona_id"] != persona_id]
        return Response(status_code=204)

    async def _sources(self, persona_id: str) -> Any:
        return {"items": [{"file_size": size} for size in self.sizes.get(persona_id, [])], "next_cursor": None}

    async def _upload(self, request: Request) -> Any:
        self.uploads.append(await request.body())
        return self.refusals.get("/knowledge/upload", {"source_id": PERSONAS[0]["persona_id"]})

    async def _status(self) -> Any:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    async def _chat(self, websocket: WebSocket) -> None:
        if "/ws/chat" in self.refusals:
            await websocket.send_denial_response(self.refusals["/ws/chat"])
            return
        await websocket.accept()
        self.asked.append({**dict(websocket.query_params), **json.loads(await websocket.receive_text())})
        for frame in self.frames:
            await websocket.send_text(json.dumps(frame))
        if self.stays_silent:
            await websocket.receive()
        await websocket.close()


@pytest.fixture
async def platform() -> AsyncIterator[ScriptedPlatform]:
    scripted = ScriptedPlatform()
    config = uvicorn.Config(
        scripted.application(), log_config=None, access_log=False, ws="websockets-sansio", lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        scripted.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  # uvicorn has a flag and no event
            await asyncio.sleep(0.005)
        yield scripted
        server.should_exit = True
        await serving


@pytest.fixture
def as_learner(platform: ScriptedPlatform) -> dict[str, str]:
    """The environment of somebody who has a token."""
    return {"BWENGE_URL": platform.url, "BWENGE_TOKEN": TOKEN}


@pytest.fixture
def demo_file(tmp_path: Path, platform: ScriptedPlatform) -> Path:
    """demo.json in the default data directory, for the scripted platform."""
    path = tmp_path / "data" / "demo.json"
    path.parent.mkdir()
    content = {
        "url": platform.url,
        "persona_id": PERSONAS[0]["persona_id"],
        "owner": {"identifier": "owner@demo.example", "password": "one"},
        "learner": {"identifier": "demo.learner", "password": "two"},
    }
    path.write_text(json.dumps(content))
    return path
