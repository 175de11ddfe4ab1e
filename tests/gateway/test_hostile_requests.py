"""What could be read in two ways is refused, and no service sees a byte of it. Raw sockets."""

import asyncio

import pytest

from bwenge.gateway.downstream import GatewayHTTPProtocol
from tests.support.gateways import (
    OK,
    PATIENCE,
    Received,
    RunningGateway,
    ScriptedService,
    closed,
    gateway_before,
    read_reply,
)

HOST = b"Host: h\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /internal HTTP/1.1\r\nHost: h\r\n\r\n"


REFUSED: list[tuple[str, bytes, int]] = [
    ("length and chunks", CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    ("chunks and length", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    ("two lengths", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("the same length twice", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("a list of lengths", POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    ("a signed length", POST + b"Content-Length: +3\r\n\r\nabc", 400),
    ("a negative length", POST + b"Content-Length: -3\r\n\r\nabc", 400),
    ("a length in hexadecimal", POST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    ("a length beyond 64 bits", POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc", 400),
    ("an encoding that looks like chunks", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("chunks not last", POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("chunks twice", CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunks of another encoding", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    ("a space before the colon", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("a vertical tab before the value", POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("a quoted encoding", POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 501),
    ("chunks in HTTP/1.0", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("a space in a name", b"GET /echo HTTP/1.1\r\n" + HOST + b"X y: a\r\n\r\n", 400),
    ("no name", b"GET /echo HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
    ("bare line feeds", b"GET /echo HTTP/1.1\nHost: h\n\n", 400),
    ("one bare line feed", b"GET /echo HTTP/1.1\r\nHost: h\nX: b\r\n\r\n", 400),
    ("a bare carriage return", b"GET /echo HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400),
    ("NUL in a value", b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
    ("a folded line", b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    ("a space before the first field", b"GET /echo HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n", 400),
    ("HTTP/0.9", b"GET /echo\r\n\r\n", 505),
    ("HTTP/2.0", b"GET /echo HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    ("an unknown version", b"GET /echo HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("no host", b"GET /echo HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET /echo HTTP/1.1\r\n" + HOST + b"Host: evil\r\n\r\n", 400),
    ("a host with a path", b"GET /echo HTTP/1.1\r\nHost: h/evil\r\n\r\n", 400),
    ("a host with a name", b"GET /echo HTTP/1.1\r\nHost: a@h\r\n\r\n", 400),
    ("another host in the target", b"GET http://evil/echo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a name in the target", b"GET http://a@h/echo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("another scheme", b"GET ftp://h/echo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("an asterisk", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no slash", b"GET echo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a fragment", b"GET /echo#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a space in the target", b"GET /echo x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a control character in the target", b"GET /ec\x01ho HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("raw UTF-8 in the target", b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("an unknown method", b"STEAL /echo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("CONNECT", b"CONNECT h:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("TRACE", b"TRACE /echo HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("a head without end", b"GET /echo HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    ("fields without end", b"GET /echo HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n", 431),
    ("a target without end", b"GET /echo?" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    (
        "a WebSocket with a body",
        b"GET /socket HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"
        + HOST
        + b"\r\nabc",
        400,
    ),
    ("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
]


@pytest.mark.parametrize(("raw", "status"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_a_malformed_head_is_refused_and_its_connection_closed(
    service: ScriptedService, gateway: RunningGateway, raw: bytes, status: int
) -> None:
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        writer.write(raw)
        reply = await read_reply(reader)
        writer.close()
        rest = await reader.read()
    await closed(writer)
    assert (reply.status, rest) == (status, b"")
    assert reply.all_of(b"content-type") == [b"application/problem+json"]
    assert reply.all_of(b"connection") == [b"close"]
    assert reply.all_of(b"x-content-type-options") == [b"nosniff"]
    assert len(reply.all_of(b"x-request-id")) == len(reply.all_of(b"date")) == 1
    assert service.requests == []


BAD_CHUNKS = [
    b"zz\r\nabc\r\n0\r\n\r\n",
    b"3 ;x\r\nabc\r\n0\r\n\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    b"\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
    b"3\r\nabc\r\n0\r\nX y: 3\r\n\r\n",
]


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
async def test_a_body_that_is_malformed_never_becomes_a_whole_request(
    service: ScriptedService, gateway: RunningGateway, chunks: bytes
) -> None:
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        writer.write(CHUNKED + b"\r\n" + chunks + HIDDEN)
        reply = await read_reply(reader)
        writer.close()
        assert (reply.status, await reader.read()) == (400, b"")
    await closed(writer)
    assert all(received.body == b"" for received in service.requests)
    assert not any(b"/internal" in received.head for received in service.requests)


async def test_a_malformed_request_behind_a_good_one_does_not_end_up_in_its_answer(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    good = b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = await gateway.ask_all(good + b"GET /echo\x01 HTTP/1.1\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"\r\n\r\nok")
    assert len(service.requests) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_of_requests_that_wait_only_the_first_are_answered(service: ScriptedService, *, at_once: bool) -> None:
    class QuicklyCut(GatewayHTTPProtocol):
        silence_seconds = 0.2

    go_on = asyncio.Event()

    async def wait(received: Received) -> None:
        await go_on.wait()
        received.writer.write(OK)

    service.script = wait
    get = b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n"
    async with gateway_before(service, http=QuicklyCut) as gateway:
        reader, writer = await gateway.connect()
        async with asyncio.timeout(PATIENCE):
            if at_once:
                writer.write(get * 6000)
            else:
                for _ in range(30):
                    writer.write(get)
                    await asyncio.sleep(0.005)
            # For longer than a peer may be silent that owes something.
            await asyncio.sleep(0.5)
            go_on.set()
            if not at_once:
                writer.write(get * 100)
            answers = await reader.read()
        await closed(writer)
    assert 17 <= answers.count(b"HTTP/1.1 200 ") == len(service.requests) < 150
    assert answers.count(b"connection: close") == 1


async def test_what_follows_another_upgrade_is_no_request(service: ScriptedService, gateway: RunningGateway) -> None:
    upgrade = b"GET /echo HTTP/1.1\r\n" + HOST + b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n\r\n"
    answer = await gateway.ask_all(upgrade + HIDDEN)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [received.first_line for received in service.requests] == [b"GET /echo HTTP/1.1"]
    assert service.requests[0].all_of(b"upgrade") == []


INTERNAL = [
    "/internal",
    "/internal/",
    "//internal",
    "/./internal",
    "/echo/../internal",
    "/echo/%2e%2e/internal",
    "/echo%2f..%2finternal",
    "/%69nternal",
    "/%2569nternal",
    "/internal%00",
    "/echo;/internal",
    "/echo\\..\\internal",
    "/things/../internal",
    "/things/%2e%2e%2finternal",
    "/things/a/../../internal",
    "/things//internal",
    "/things/",
    "/Echo",
    "/echo/",
    "/echo%20",
    "/echo%0a",
    "http://h/internal",
    "http://h//internal",
    "http://h",
    "/metrics",
    "/health",
]


@pytest.mark.parametrize("target", INTERNAL)
async def test_what_is_not_in_the_table_is_not_reached(
    service: ScriptedService, gateway: RunningGateway, target: str
) -> None:
    reply = await gateway.ask(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert reply.status == 404
    assert service.requests == []


async def test_a_client_that_falls_silent_in_its_body_is_cut_off_with_its_upload(service: ScriptedService) -> None:
    class QuicklyCut(GatewayHTTPProtocol):
        silence_seconds = 0.2

    async with gateway_before(service, http=QuicklyCut) as gateway:
        answer = await gateway.ask_all(POST + b"Content-Length: 10\r\n\r\nabc")
        assert answer == b""
        assert [received.body for received in service.requests] == [b""]
