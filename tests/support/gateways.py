"""A gateway on a real socket, services that are scripts over raw bytes, and clients that send what they like."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from bwenge.gateway.downstream import GatewayHTTPProtocol
from bwenge.gateway.routing import PublicRoute
from bwenge.gateway.settings import GatewaySettings
from bwenge.gateway.wiring import GatewayFeature, build
from bwenge.kit.errors import NotFound, Unauthenticated
from bwenge.kit.http.middleware import RequestContext
from bwenge.kit.http.problems import problem_response

PATIENCE: Final = 10.0
ALL: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
KEY_PREFIX: Final = "bwk_"
GOOD_TOKEN: Final = "good.token"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def route(path: str, *, methods: frozenset[str] = ALL, token: bool = False, limit: int = 1 << 30) -> PublicRoute:
    """An entry of the one service that most tests have."""
    return PublicRoute(path, methods, "service", needs_token=token, max_body_bytes=limit)


ROUTES: Final = (
    route("/echo"),
    route("/small", limit=10),
    route("/form", limit=1000),
    PublicRoute("/slow", ALL, "service", needs_token=False, max_body_bytes=0, head_seconds=5.0),
    route("/private", methods=frozenset({"GET", "POST"}), token=True),
    route("/things/{thing_id}"),
    PublicRoute("/socket", ("GET",), "service", needs_token=False, max_body_bytes=0, is_socket=True),
    PublicRoute("/private_socket", ("GET",), "service", needs_token=True, max_body_bytes=0, is_socket=True),
)


@dataclass
class Received:
    """A request as its service got it."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""

    @property
    def first_line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        return fields_of(self.head)

    def all_of(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.fields if given == name]

    async def read_body(self) -> bytes:
        """As its framing says, chunks joined."""
        self.body = await read_body(self.reader, self.fields)
        return self.body


Script = Callable[[Received], Awaitable[None]]


def says(answer: bytes) -> Script:
    """Reads the whole request, and answers with these bytes."""

    async def script(received: Received) -> None:
        await received.read_body()
        received.writer.write(answer)

    return script


def breaks_off_after(answer: bytes) -> Script:
    """Says that much, and closes the connection."""

    async def script(received: Received) -> None:
        received.writer.write(answer)
        await received.writer.drain()
        received.writer.close()

    return script


OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class ScriptedService:
    """Counts connections, keeps each request, and does with it what the script says; then waits for the next one."""

    script: Script = field(default_factory=lambda: says(OK))
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                received = Received(head, reader, writer)
                self.requests.append(received)
                await self.script(received)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            self.ended += 1
            writer.close()


@contextlib.asynccontextmanager
async def listening(service: ScriptedService) -> AsyncIterator[ScriptedService]:
    server = await asyncio.start_server(service.serve, "127.0.0.1", service.port, limit=1 << 20)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
        for received in service.requests:
            received.writer.close()
        await asyncio.sleep(0)


def check_token(token: str) -> None:
    if token != GOOD_TOKEN:
        raise Unauthenticated


async def nothing_here(scope: Any, receive: Any, send: Any) -> None:
    await problem_response(NotFound())(scope, receive, send)


@dataclass
class RunningGateway:
    port: int
    feature: GatewayFeature
    server: uvicorn.Server

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    async def ask(self, raw: bytes) -> "Reply":
        """Send these bytes, and read one answer."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(raw)
                return await read_reply(reader, method=raw.split(b" ", 1)[0])
        finally:
            await closed(writer)

    async def ask_all(self, raw: bytes) -> bytes:
        """Send these bytes, and read until the gateway closes."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(raw)
                return await reader.read()
        finally:
            await closed(writer)


@contextlib.asynccontextmanager
async def running_gateway(
    urls: Mapping[str, str],
    *,
    routes: Sequence[PublicRoute] = ROUTES,
    settings: GatewaySettings | None = None,
    http: type[GatewayHTTPProtocol] = GatewayHTTPProtocol,
    around: Callable[[ASGIApp], ASGIApp] = RequestContext,
    graceful_seconds: int = 5,
) -> AsyncIterator[RunningGateway]:
    feature = build(
        routes, urls, check_token=check_token, key_prefix=KEY_PREFIX, fallback=nothing_here, settings=settings
    )
    config = uvicorn.Config(
        around(feature.app),
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=graceful_seconds,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  # uvicorn has a flag and no event
            await asyncio.sleep(0.005)
        try:
            yield RunningGateway(listener.getsockname()[1], feature, server)
        finally:
            await feature.close()
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def gateway_before(service: ScriptedService, **options: Any) -> AsyncIterator[RunningGateway]:
    async with (
        listening(service),
        running_gateway({"service": f"http://127.0.0.1:{service.port}"}, **options) as gateway,
    ):
        yield gateway


@dataclass
class Reply:
    """An answer as its client got it; trailers are those of a chunked one."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    def all_of(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.fields if given == name]


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


async def read_reply(reader: asyncio.StreamReader, *, method: bytes = b"GET") -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    if status == 100:
        return await read_reply(reader, method=method)
    fields = fields_of(head)
    if method == b"HEAD" or status in {101, 204, 304}:
        return Reply(status, fields, b"", [])
    names = {name for name, _ in fields}
    if not names & {b"content-length", b"transfer-encoding"}:
        return Reply(status, fields, await reader.read(), [])
    trailers: list[tuple[bytes, bytes]] = []
    return Reply(status, fields, await read_body(reader, fields, trailers), trailers)


async def read_body(
    reader: asyncio.StreamReader,
    fields: Sequence[tuple[bytes, bytes]],
    trailers: list[tuple[bytes, bytes]] | None = None,
) -> bytes:
    given = dict(fields)
    if given.get(b"transfer-encoding") != b"chunked":
        return await reader.readexactly(int(given.get(b"content-length", b"0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (line := await reader.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if trailers is not None:
            trailers.append((name, value.strip()))
    return body


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
