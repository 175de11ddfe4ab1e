"""What a raw peer can do to a connection: heads without end, and not reading. A real uvicorn, a real socket."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.utils import ClientDisconnected

from bwenge.kit.http.connections import MAX_HEAD_BYTES, MAX_WAITING, BoundedHTTPProtocol, ImpatientWebSocketProtocol

PATIENCE = 30.0
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class QuicklyImpatient(ImpatientWebSocketProtocol):
    flush_seconds = 0.1


class QuicklyCut(BoundedHTTPProtocol):
    silence_seconds = 0.2


@dataclass
class Served:
    """A server, and the application's view of its requests."""

    port: int
    server: uvicorn.Server
    bodies: list[bytes] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def until_no_connection(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.server.server_state.connections:  # noqa: ASYNC110  # uvicorn has a set and no event
                await asyncio.sleep(0.01)


Application = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[Any]]


@contextlib.asynccontextmanager
async def serve(
    application: Application, *, http: type[BoundedHTTPProtocol] = BoundedHTTPProtocol, **options: Any
) -> AsyncIterator[Served]:
    config = uvicorn.Config(
        application,
        http=http,
        ws=QuicklyImpatient,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        **options,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  # uvicorn has a flag and no event
            await asyncio.sleep(0.005)
        try:
            yield Served(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            await serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    bodies: list[bytes] = []

    async def take(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(await read_all(scope, receive, send))

    async with serve(take) as served:
        served.bodies = bodies
        yield served


async def read_all(_scope: Any, receive: Any, send: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
    return body


async def exchange(served: Served, *pieces: bytes) -> bytes:
    """All that is answered until the server closes."""
    reader, writer = await served.connect()
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    writer.close()
    return answer


def assert_is_refused(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in fields)
    problem = json.loads(body)
    assert status == "HTTP/1.1 431 Request Header Fields Too Large"
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert (problem["status"], problem["code"]) == (431, "too_large")


LONG = b"x" * MAX_HEAD_BYTES


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /" + LONG + b" HTTP/1.1\r\nHost: h\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: h\r\nX-Long: " + LONG + b"\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 1000) for n in range(66)) + b"\r\n"],
        [b"GET /" + LONG],
        [b"GET / HTTP/1.1\r\nHost: h\r\nX-Long: " + LONG],
    ],
    ids=["address", "header", "headers", "address without end", "header without end"],
)
async def test_a_head_above_the_limit_is_refused_and_the_connection_closed(served: Served, pieces: list[bytes]) -> None:
    assert_is_refused(await exchange(served, *pieces))
    await served.until_no_connection()
    assert served.bodies == []


async def test_a_header_that_never_ends_is_read_no_further(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nX-Long: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 120 * 2**20:
            writer.write(LONG)
            await writer.drain()
            sent += len(LONG)
    assert sent < 120 * 2**20
    writer.close()
    del reader


async def test_a_trailer_above_the_limit_ends_the_connection(served: Served) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Long: "
    answer = await exchange(served, chunked, *([LONG] * 3))
    assert b"204" not in answer
    await served.until_no_connection()


async def test_heads_and_bodies_within_their_limits_are_served_one_after_the_other(served: Served) -> None:
    fits = b"x" * (MAX_HEAD_BYTES - 1_000)
    post = b"POST / HTTP/1.1\r\nHost: h\r\nX-Long: %b\r\nContent-Length: 300000\r\n\r\n" % fits
    last = b"GET / HTTP/1.1\r\nHost: h\r\nX-Long: %b\r\nConnection: close\r\n\r\n" % fits
    body = b"b" * 300_000
    answer = await exchange(served, post + body, post + body, last)
    assert answer.count(b"HTTP/1.1 204 No Content") == 3
    assert served.bodies == [body, body, b""]


async def test_a_chunked_body_may_be_longer_than_a_head(served: Served) -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunk = b"10000\r\n" + b"b" * 0x10000 + b"\r\n"
    answer = await exchange(served, post, *([chunk] * 4), b"0\r\nX-Sum: 7\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204")
    assert [len(body) for body in served.bodies] == [4 * 0x10000]


async def test_of_requests_that_wait_only_the_first_are_answered() -> None:
    go_on, taken = asyncio.Event(), 0

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        taken += 1
        await go_on.wait()
        await read_all(scope, receive, send)

    async with serve(wait, http=QuicklyCut) as served:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 1000)
        # For longer than a peer may be silent that owes something.
        await asyncio.sleep(QuicklyCut.silence_seconds * 2)
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        await served.until_no_connection()
    assert answer.count(b"HTTP/1.1 204 No Content") == taken == 1 + MAX_WAITING
    assert answer.count(b"connection: close") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
    ],
    ids=["nothing", "half an address", "half a head", "half a body", "an empty line after a request"],
)
async def test_a_peer_that_owes_the_rest_of_a_request_is_cut_off(sent: bytes) -> None:
    async with serve(read_all, http=QuicklyCut, timeout_keep_alive=1000) as served:
        _, writer = await served.connect()
        writer.write(sent)
        await eventually_connected(served)
        await served.until_no_connection()
        writer.close()


async def test_a_body_that_comes_slowly_is_taken_whole() -> None:
    async with serve(read_all, http=QuicklyCut) as served:
        reader, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nConnection: close\r\n\r\n")
        for _ in range(12):
            await asyncio.sleep(QuicklyCut.silence_seconds / 4)
            writer.write(b"b")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()


async def test_a_slow_application_does_not_cost_its_peer_the_connection() -> None:
    async def think(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(QuicklyCut.silence_seconds * 3)
        await read_all(scope, receive, send)

    async with serve(think, http=QuicklyCut) as served:
        # More than is read ahead of the application.
        body = b"b" * 2**20
        post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        assert (await exchange(served, post + body)).startswith(b"HTTP/1.1 204")


async def test_a_peer_that_takes_nothing_of_an_answer_is_cut_off() -> None:
    async def tell_much(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 16 * 2**20})

    async with serve(tell_much, http=QuicklyCut) as served:
        _, writer = await small_connection(served)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await eventually_connected(served)
        await served.until_no_connection()
        writer.close()


async def eventually_connected(served: Served) -> None:
    async with asyncio.timeout(PATIENCE):
        while not served.server.server_state.connections:  # noqa: ASYNC110  # uvicorn has a set and no event
            await asyncio.sleep(0.01)


async def accept(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})


async def small_connection(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A peer with a small window, whose reader takes little that it is not asked for."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", served.port))
    return await asyncio.open_connection(sock=raw, limit=1024)


async def never_reading(served: Served) -> asyncio.StreamWriter:
    """A peer that reads its handshake's answer and nothing after it."""
    reader, writer = await small_connection(served)
    writer.write(HANDSHAKE)
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    return writer


async def test_a_peer_that_does_not_read_the_end_is_cut_off() -> None:
    async def talk_and_end(_scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        # More than the kernel takes: the rest stays in the transport when the application ends.
        await send({"type": "websocket.send", "bytes": b"x" * 16 * 2**20})

    async with serve(talk_and_end, ws_per_message_deflate=False) as served:
        writer = await never_reading(served)
        await served.until_no_connection()
        writer.close()


async def test_a_peer_that_answers_no_ping_is_cut_off_while_the_application_waits_to_send() -> None:
    ended = asyncio.Event()

    async def talk_for_ever(_scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 2**20})
        finally:
            ended.set()

    async with serve(talk_for_ever, ws_per_message_deflate=False, ws_ping_interval=0.1, ws_ping_timeout=0.1) as served:
        writer = await never_reading(served)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        await served.until_no_connection()
        writer.close()


async def test_a_peer_that_pings_without_end_and_reads_no_answer_is_cut_off() -> None:
    async def wait(_scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await receive()

    async with serve(wait, ws_ping_interval=None) as served:
        writer = await never_reading(served)
        pings = (b"\x89\xfd" + b"\0" * 4 + b"p" * 125) * 2**9
        with contextlib.suppress(ConnectionError):
            for _ in range(2**12):
                writer.write(pings)
                await writer.drain()
        await served.until_no_connection()
        writer.close()


async def test_a_client_that_breaks_the_protocol_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    broken = asyncio.Event()

    async def talk_after_that(_scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        assert (await receive())["type"] == "websocket.disconnect"
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "too late"})
        broken.set()

    async with serve(talk_after_that) as served:
        reader, writer = await served.connect()
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\xff\xff not a frame")
        async with asyncio.timeout(PATIENCE):
            await broken.wait()
        writer.close()
        await served.until_no_connection()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_peer_that_reads_gets_everything_and_the_close() -> None:
    async def talk_and_close(_scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "bytes": b"x" * 4 * 2**20})
        await send({"type": "websocket.close", "code": 1000})

    async with serve(talk_and_close, ws_per_message_deflate=False) as served:
        reader, writer = await served.connect()
        writer.write(HANDSHAKE)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(10 + 4 * 2**20 + 4)
        assert answer.endswith(b"x\x88\x02\x03\xe8")
        writer.close()
        await served.until_no_connection()


async def test_a_refused_handshake_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": False})

    async with serve(refuse) as served:
        reader, writer = await served.connect()
        writer.write(HANDSHAKE)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        await served.until_no_connection()
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"\r\n\r\nno")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
