"""An OpenAI-compatible HTTP server that answers by script, faults included, over real sockets on 127.0.0.1.

In a test: `async with ModelServer(Script(tokens=("Muraho",))) as server: ... server.base_url`.
As a process: `python -m tests.support.model_server --port 9001 --script '{"tokens": ["Muraho"], "delay": 0.02}'`;
it prints its base URL on one line when it listens, and tells its records at GET /_records.

HTTP is written by hand here, because a server framework would not cut a connection in the middle of an answer.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Self

_SECRET_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "cookie"})
_MAX_BODY = 64 * 1024 * 1024

Messages = list[dict[str, Any]]


class Fault(StrEnum):
    """What goes wrong once `Script.fault_after` tokens were sent; 0 is before the first."""

    STALL = "stall"  # nothing more comes, until the client goes
    CUT = "cut"  # the socket is reset
    END = "end"  # the body ends in good order, without finish reason and [DONE]
    GARBAGE = "garbage"  # an event that is not JSON
    ERROR = "error"  # an error object as an event
    FLOOD = "flood"  # bytes without end and without a new line
    KEEP_ALIVE = "keep_alive"  # a comment every 10 ms, and no token


@dataclass(frozen=True)
class Script:
    """One answer.

    Args:
        tokens: Sent one event each; overridden by `answer`.
        answer: Computes the text from the request's messages; it is then sent word by word.
        delay: Seconds before each token.
        gates: By position of a token, what to wait for before sending it.
        end_gate: What to wait for between the finish reason and whatever follows it.
        status: Other than 200: that status with an error object, and `retry_after` as its header.
        fault: What goes wrong, after `fault_after` tokens.
        error: The error object of a status or of `Fault.ERROR`.
        refused_parameters: A request that has one of them gets 400 naming it, as OpenAI answers it.
        finish_reason: None leaves it out.
        usage: Whether usage is sent where the request asks for it.
        done: Whether `[DONE]` is sent.
        comments: Whether a comment is sent before each token, as servers do that keep a connection alive.
        empty_choices: Whether an event with empty choices is sent first.
        headers: Added to a streamed answer and to one with another status than 200.
    """

    tokens: tuple[str, ...] = ("Muraho", ", ", "amakuru", "?")
    answer: Callable[[Messages], str] | None = None
    delay: float = 0.0
    gates: dict[int, asyncio.Event] = field(default_factory=dict)
    end_gate: asyncio.Event | None = None
    status: int = 200
    retry_after: str | None = None
    fault: Fault | None = None
    fault_after: int = 0
    error: dict[str, Any] = field(default_factory=lambda: {"message": "scripted failure", "type": "server_error"})
    refused_parameters: tuple[str, ...] = ()
    finish_reason: str | None = "stop"
    usage: bool = True
    done: bool = True
    comments: bool = False
    empty_choices: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The script that a command line gives; `"echo": true` answers with the last message."""
        values: dict[str, Any] = json.loads(text)
        if values.pop("echo", False):
            values["answer"] = last_message
        if "fault" in values:
            values["fault"] = Fault(values["fault"])
        for name in {"tokens", "refused_parameters"} & values.keys():
            values[name] = tuple(values[name])
        return cls(**values)

    def pieces(self, messages: Messages) -> tuple[str, ...]:
        if self.answer is None:
            return self.tokens
        return tuple(re.findall(r"\s*\S+\s*$|\s*\S+", self.answer(messages)))


def last_message(messages: Messages) -> str:
    return str(messages[-1]["content"])


@dataclass
class ReceivedRequest:
    """What a client sent, and what happened to the answer; times are `time.monotonic()`, one clock on the machine."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    received_at: float
    token_times: list[float] = field(default_factory=list)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "connection": self.connection,
            "received_at": self.received_at,
            "token_times": self.token_times,
            "disconnected": self.disconnected.is_set(),
        }


class _Connection(asyncio.StreamReaderProtocol):
    """A stream that tells at once when its client goes, also while nobody reads."""

    def __init__(self, serve: Callable[["_Connection"], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.reader = asyncio.StreamReader(loop=loop)
        self.writer: asyncio.StreamWriter
        self.gone = asyncio.Event()
        self._serve = serve
        super().__init__(self.reader, self._accepted, loop=loop)

    async def _accepted(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        await self._serve(self)

    def eof_received(self) -> bool:
        self.gone.set()
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


class ModelServer:
    """The server; `script` may be replaced at any time, and `scripts` are played first, one per request.

    Attributes:
        requests: Every request to a model path, in the order of arrival.
    """

    def __init__(self, script: Script | None = None, *, api_key: str | None = None, model: str = "scripted-1") -> None:
        self.script = script or Script()
        self.scripts: list[Script] = []
        self.requests: list[ReceivedRequest] = []
        self.port = 0
        self._api_key = api_key
        self._model = model
        self._connections = itertools.count(1)
        self._open: dict[asyncio.Task[Any], _Connection] = {}
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._serve, loop), "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task, connection in list(self._open.items()):
            connection.writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, connection: _Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = connection
        number = next(self._connections)
        try:
            while (received := await _read_request(connection.reader, number)) is not None:
                request, presented_key = received
                await self._answer_unless_gone(connection, request, presented_key=presented_key)
        except (OSError, asyncio.CancelledError):
            # The client went or the server stops: both end the connection, and neither is news.
            pass
        finally:
            connection.writer.close()
            del self._open[task]

    async def _answer_unless_gone(
        self, connection: _Connection, request: ReceivedRequest, *, presented_key: str
    ) -> None:
        answering = asyncio.ensure_future(self._answer(connection.writer, request, presented_key=presented_key))
        going = asyncio.ensure_future(connection.gone.wait())
        try:
            await asyncio.wait({answering, going}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                request.disconnected.set()
        finally:
            going.cancel()
            answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering

    async def _answer(self, writer: asyncio.StreamWriter, request: ReceivedRequest, *, presented_key: str) -> None:
        if request.path == "/_records":
            await _send_json(writer, 200, [record.as_json() for record in self.requests])
            return
        self.requests.append(request)
        if self._api_key is not None and presented_key != self._api_key:
            # Real servers quote the key, so this one does.
            await _send_json(writer, 401, {"error": {"message": f"Incorrect API key provided: {presented_key}"}})
        elif request.path == "/v1/models":
            await _send_json(writer, 200, {"object": "list", "data": [{"id": self._model, "object": "model"}]})
        elif request.path == "/v1/chat/completions":
            script = self.scripts.pop(0) if self.scripts else self.script
            await _Completion(script, writer, request=request, model=self._model).send()
        else:
            await _send_json(writer, 404, {"error": {"message": "no such path"}})


@dataclass
class _Completion:
    """The answer to one chat completion."""

    script: Script
    writer: asyncio.StreamWriter
    request: ReceivedRequest = field(kw_only=True)
    model: str = field(kw_only=True)

    async def send(self) -> None:
        script, body = self.script, self.request.body
        refused = next((name for name in script.refused_parameters if name in body), None)
        if refused is not None:
            error = {
                "message": f"Unsupported parameter: '{refused}'",
                "param": refused,
                "code": "unsupported_parameter",
            }
            await _send_json(self.writer, 400, {"error": error})
        elif script.status != HTTPStatus.OK:
            headers = {} if script.retry_after is None else {"Retry-After": script.retry_after}
            headers |= script.headers
            await _send_json(self.writer, script.status, {"error": script.error}, headers=headers)
        elif body.get("stream"):
            await self._send_stream()
        else:
            await self._send_whole()

    async def _send_stream(self) -> None:
        pieces = self.script.pieces(self.request.body["messages"])
        head = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **self.script.headers}
        if self.script.fault is not Fault.STALL or self.script.fault_after:
            await _send_head(self.writer, 200, head)
        if self.script.empty_choices:
            await self._event({"choices": []})
        for position, piece in enumerate(pieces):
            if self._fails_at(position):
                return await self._fail()
            await self._token(position, piece)
        if self._fails_at(len(pieces)):
            return await self._fail()
        return await self._finish(len(pieces))

    def _fails_at(self, position: int) -> bool:
        return self.script.fault is not None and self.script.fault_after == position

    async def _token(self, position: int, piece: str) -> None:
        if position in self.script.gates:
            await self.script.gates[position].wait()
        if self.script.delay:
            await asyncio.sleep(self.script.delay)
        if self.script.comments:
            await self._send(b": still here\n\n")
        await self._event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        self.request.token_times.append(time.monotonic())

    async def _finish(self, tokens: int) -> None:
        if self.script.finish_reason is not None:
            await self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": self.script.finish_reason}]})
        if self.script.end_gate is not None:
            await self.script.end_gate.wait()
        if self.script.usage and (self.request.body.get("stream_options") or {}).get("include_usage"):
            await self._event({"choices": [], "usage": self._usage(tokens)})
        if self.script.done:
            await self._send(b"data: [DONE]\n\n")
        await self._end()

    async def _fail(self) -> None:
        match self.script.fault:
            case Fault.STALL:
                await asyncio.Event().wait()
            case Fault.CUT:
                self.writer.transport.abort()
            case Fault.GARBAGE:
                await self._send(b'data: {"choices": [\n\n')
                await self._end()
            case Fault.ERROR:
                await self._event({"error": self.script.error})
                await self._end()
            case Fault.FLOOD:
                while not self.writer.is_closing():
                    await self._send(b"x" * 65536)
            case Fault.KEEP_ALIVE:
                while not self.writer.is_closing():
                    await self._send(b": still here\n\n")
                    await asyncio.sleep(0.01)
            case _:
                await self._end()

    async def _send_whole(self) -> None:
        pieces = self.script.pieces(self.request.body["messages"])
        if self.script.delay:
            await asyncio.sleep(self.script.delay * len(pieces))
        self.request.token_times.extend([time.monotonic()] * len(pieces))
        message = {"role": "assistant", "content": "".join(pieces)}
        choice = {"index": 0, "message": message, "finish_reason": self.script.finish_reason}
        usage = self._usage(len(pieces))
        await _send_json(self.writer, 200, {**self._envelope("chat.completion"), "choices": [choice], "usage": usage})

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = sum(len(str(message["content"]).split()) for message in self.request.body["messages"])
        return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}

    def _envelope(self, kind: str) -> dict[str, Any]:
        model = self.request.body.get("model", self.model)
        return {"id": "chatcmpl-scripted", "object": kind, "created": 1_700_000_000, "model": model}

    async def _event(self, content: dict[str, Any]) -> None:
        event = content if "error" in content else {**self._envelope("chat.completion.chunk"), **content}
        await self._send(b"data: " + json.dumps(event).encode() + b"\n\n")

    async def _send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def _end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


async def _read_request(reader: asyncio.StreamReader, connection: int) -> tuple[ReceivedRequest, str] | None:
    """The next request of a connection and the key that it presented; None when the client has left."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    if length > _MAX_BODY:
        raise ConnectionError("the request is larger than any test sends")
    body = json.loads(await reader.readexactly(length)) if length else {}
    presented_key = headers.get("authorization", "").removeprefix("Bearer ")
    redacted = {name: "redacted" if name in _SECRET_HEADERS else value for name, value in headers.items()}
    received = ReceivedRequest(method, path, redacted, body, connection=connection, received_at=time.monotonic())
    return received, presented_key


async def _send_head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    await writer.drain()


async def _send_json(
    writer: asyncio.StreamWriter, status: int, content: Any, *, headers: dict[str, str] | None = None
) -> None:
    body = json.dumps(content).encode()
    await _send_head(
        writer, status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    )
    writer.write(body)
    await writer.drain()


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.asynccontextmanager
async def model_servers(*scripts: Script) -> AsyncIterator[list[ModelServer]]:
    """One server for each script."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ModelServer(script)) for script in scripts]


async def _run(port: int, script: Script) -> None:
    server = ModelServer(script)
    await server.start(port)
    sys.stdout.write(server.base_url + "\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", default="{}", help="JSON object with the fields of Script")
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port, Script.from_json(options.script)))


if __name__ == "__main__":
    main()
