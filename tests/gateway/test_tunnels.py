"""WebSockets through the gateway: bytes pass both ways, and what client and service agree on stays theirs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from bwenge.gateway.downstream import GatewayHTTPProtocol
from tests.support.gateways import (
    GOOD_TOKEN,
    OK,
    PATIENCE,
    Received,
    RunningGateway,
    ScriptedService,
    closed,
    gateway_before,
    running_gateway,
    says,
)
from tests.support.waiting import comes_true

HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


class EchoService:
    """Echoes; `close CODE` closes with that code, and a path with `refuse` is refused before the upgrade."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Request] = []
        self.close_codes: list[int | None] = []

    async def __call__(self, connection: ServerConnection) -> None:
        try:
            async for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    await connection.close(int(message.removeprefix("close ")), "as asked")
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            await connection.wait_closed()
            self.close_codes.append(connection.close_code)

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if "refuse" in request.path:
            return connection.respond(401, '{"code": "unauthenticated"}')
        return None


@pytest.fixture
async def service() -> AsyncIterator[EchoService]:
    echo = EchoService()
    async with serve(echo, "127.0.0.1", 0, process_request=echo.process_request, max_size=None) as server:
        echo.port = next(iter(server.sockets)).getsockname()[1]
        yield echo


@pytest.fixture
async def gateway(service: EchoService) -> AsyncIterator[RunningGateway]:
    async with running_gateway({"service": f"http://127.0.0.1:{service.port}"}) as running:
        yield running


def dial(gateway: RunningGateway, target: str = "/socket", **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{gateway.port}{target}", proxy=None, max_size=None, **options)


def open_tunnels() -> float:
    return REGISTRY.get_sample_value("bwenge_gateway_tunnels", {"service": "service"}) or 0.0


async def none_open() -> bool:
    return open_tunnels() == 0


async def pour_without_end(received: Received) -> None:
    received.writer.write(SWITCH)
    while True:
        received.writer.write(b"a" * 100_000)
        await received.writer.drain()


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_come_back_and_compression_is_agreed_with_the_service(
    service: EchoService, gateway: RunningGateway, compression: str | None
) -> None:
    async with dial(gateway, compression=compression) as client:
        for message in ("muraho", b"\x00\xff" * 100_000, "", "a" * 3_000_000):
            await client.send(message)
            assert await client.recv() == message
        names = [extension.name for extension in client.protocol.extensions]
        assert names == (["permessage-deflate"] if compression else [])
        await (await client.ping())
        assert open_tunnels() == 1
    assert service.requests[0].headers["X-Forwarded-For"] == "127.0.0.1"
    assert service.requests[0].headers["X-Request-Id"] == client.response.headers["X-Request-Id"]  # type: ignore[union-attr]  # it has connected
    await comes_true(none_open, "the tunnel's end")


@pytest.mark.parametrize("code", [1000, 1012, 4401])
async def test_a_close_code_of_the_service_reaches_the_client(gateway: RunningGateway, code: int) -> None:
    async with dial(gateway) as client:
        await client.send(f"close {code}")
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, "as asked")


@pytest.mark.parametrize("code", [1000, 1001, 4401])
async def test_a_close_code_of_the_client_reaches_the_service(
    service: EchoService, gateway: RunningGateway, code: int
) -> None:
    async with dial(gateway) as client:
        await client.close(code)

    async def has_closed() -> bool:
        return service.close_codes == [code]

    await comes_true(has_closed, "the close code")


async def test_a_client_that_vanishes_is_gone_for_the_service(service: EchoService, gateway: RunningGateway) -> None:
    async with dial(gateway) as client:
        client.transport.abort()

        async def has_closed() -> bool:
            return service.close_codes == [1006]

        await comes_true(has_closed, "the end", seconds=5)


async def test_a_refusal_before_the_upgrade_passes_with_its_body(service: EchoService, gateway: RunningGateway) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with dial(gateway, "/socket?refuse=1"):
            pass
    assert caught.value.response.status_code == 401
    assert caught.value.response.body == b'{"code": "unauthenticated"}'
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 401), ("?token=bad", 401), (f"?token={GOOD_TOKEN}", 101), ("?token=bwk_a", 101), ("?ticket=any", 401)],
)
async def test_a_socket_may_have_its_token_in_the_query(
    service: EchoService, gateway: RunningGateway, query: str, status: int
) -> None:
    if status == 101:
        async with dial(gateway, "/private_socket" + query):
            assert service.requests[0].path == "/private_socket" + query
        return
    with pytest.raises(InvalidStatus) as caught:
        async with dial(gateway, "/private_socket" + query):
            pass
    assert caught.value.response.status_code == status
    assert service.requests == []


async def test_two_hundred_idle_tunnels_stay_and_each_still_echoes(gateway: RunningGateway) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(dial(gateway, compression=None)) for _ in range(200)]
        assert open_tunnels() == 200
        assert not gateway.server.server_state.tasks
        for number, client in enumerate(clients):
            await client.send(str(number))
        assert [await client.recv() for client in clients] == [str(number) for number in range(200)]
    await comes_true(none_open, "the tunnels' end")


class QuicklyDrained(GatewayHTTPProtocol):
    drain_seconds = 0.5


async def test_a_gateway_that_stops_soon_asks_clients_to_connect_again(service: EchoService) -> None:
    urls = {"service": f"http://127.0.0.1:{service.port}"}
    running = running_gateway(urls, graceful_seconds=25, http=QuicklyDrained)
    gateway = await running.__aenter__()  # it ends while its client is connected
    async with dial(gateway) as client:
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        await client.send("still here")
        assert await client.recv() == "still here"
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(client.recv(), 3)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        await asyncio.wait_for(stopping, 3)


async def test_a_gateway_that_stops_cuts_no_frame_by_another_one() -> None:
    async def begin_a_frame(received: Received) -> None:
        received.writer.write(SWITCH + b"\x82\x0ahalf")
        await received.reader.read()

    service = ScriptedService(begin_a_frame)
    async with gateway_before(service, graceful_seconds=25, http=QuicklyDrained) as gateway:
        reader, writer = await gateway.connect()
        async with asyncio.timeout(PATIENCE):
            writer.write(HANDSHAKE)
            await reader.readuntil(b"half")
            gateway.server.should_exit = True
            assert await reader.read() == b""
        await closed(writer)


async def test_a_gateway_that_stops_waits_for_no_client_that_takes_nothing() -> None:
    class Quickly(QuicklyDrained):
        cut_seconds = 0.5

    service = ScriptedService(pour_without_end)

    async def has_ended() -> bool:
        return service.ended == 1

    async with gateway_before(service, graceful_seconds=25, http=Quickly) as gateway:
        reader, writer = await gateway.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads, too
        writer.write(HANDSHAKE)
        await comes_true(one_open, "the tunnel")
        gateway.server.should_exit = True
        await comes_true(has_ended, "the end of the service's side", seconds=5)
        await comes_true(none_open, "the tunnel's end", seconds=5)
        await closed(writer)
        del reader


async def one_open() -> bool:
    return open_tunnels() == 1


async def test_bytes_sent_behind_the_handshake_are_not_lost() -> None:
    early = asyncio.Event()

    async def switch(received: Received) -> None:
        early.set()
        received.writer.write(SWITCH + b"first of all")
        received.writer.write(await received.reader.readexactly(200_005))
        await received.writer.drain()
        received.writer.close()

    service = ScriptedService(switch)
    async with gateway_before(service) as gateway:
        reader, writer = await gateway.connect()
        async with asyncio.timeout(PATIENCE):
            writer.write(HANDSHAKE + b"early")
            await early.wait()
            writer.write(b"x" * 200_000)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"upgrade: websocket" in head.lower()
            assert await reader.read() == b"first of all" + b"early" + b"x" * 200_000
        await closed(writer)
    assert service.requests[0].all_of(b"upgrade") == [b"websocket"]
    assert service.requests[0].all_of(b"connection") == [b"Upgrade"]


async def test_a_handshake_behind_another_request_waits_for_its_turn_with_what_follows_it() -> None:
    async def answer(received: Received) -> None:
        if b"/socket" not in received.first_line:
            received.writer.write(OK)
            return
        received.writer.write(SWITCH)
        received.writer.write(await received.reader.readexactly(5))
        await received.writer.drain()
        received.writer.close()

    async with gateway_before(ScriptedService(answer)) as gateway:
        answers = await gateway.ask_all(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n" + HANDSHAKE + b"early")
        first, _, second = answers.partition(b"ok")
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 101 ")
        assert second.endswith(b"\r\n\r\nearly")


async def test_where_no_socket_is_a_request_for_one_is_like_any_other() -> None:
    service = ScriptedService()
    async with gateway_before(service) as gateway:
        answers = await gateway.ask_all(HANDSHAKE.replace(b"/socket", b"/echo") + b"early")
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert answers.endswith(b"\r\n\r\nok")
        assert (await gateway.ask(HANDSHAKE.replace(b"/socket", f"/private?token={GOOD_TOKEN}".encode()))).status == 401
    [received] = service.requests
    assert received.all_of(b"upgrade") == received.all_of(b"connection") == []


async def test_both_halves_of_a_tunnel_end_by_themselves() -> None:
    async def switch(received: Received) -> None:
        received.writer.write(SWITCH)
        everything = await received.reader.read()  # until the client has finished
        received.writer.write(b"got " + everything)
        await received.writer.drain()
        received.writer.close()

    async with gateway_before(ScriptedService(switch)) as gateway:
        reader, writer = await gateway.connect()
        async with asyncio.timeout(PATIENCE):
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"all")
            writer.write_eof()
            assert await reader.read() == b"got all"
        await closed(writer)


async def test_a_client_that_takes_nothing_makes_the_service_wait() -> None:
    written = 0
    is_stuck = asyncio.Event()

    async def pour(received: Received) -> None:
        nonlocal written
        received.writer.write(SWITCH)
        while not is_stuck.is_set():
            received.writer.write(b"a" * 100_000)
            try:
                await asyncio.wait_for(received.writer.drain(), 1)
            except TimeoutError:
                is_stuck.set()
            written += 100_000
        received.writer.close()

    async with gateway_before(ScriptedService(pour)) as gateway:
        reader, writer = await gateway.connect()
        async with asyncio.timeout(PATIENCE):
            writer.write(HANDSHAKE)
            await is_stuck.wait()
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.read()) == written
        await closed(writer)


async def test_a_client_that_takes_nothing_for_long_ends_the_tunnel() -> None:
    class QuicklyCut(GatewayHTTPProtocol):
        silence_seconds = 0.3

    service = ScriptedService(pour_without_end)

    async def has_ended() -> bool:
        return service.ended == 1

    async with gateway_before(service, http=QuicklyCut) as gateway:
        reader, writer = await gateway.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads, too
        writer.write(HANDSHAKE)
        await comes_true(has_ended, "the end of the service's side", seconds=5)
        await comes_true(none_open, "the tunnel's end", seconds=5)
        await closed(writer)
        del reader


async def test_a_client_that_takes_slowly_keeps_its_tunnel() -> None:
    class QuicklyCut(GatewayHTTPProtocol):
        silence_seconds = 0.4

    whole = 20_000_000

    async def pour(received: Received) -> None:
        received.writer.write(SWITCH + b"a" * whole)
        await received.writer.drain()
        await received.reader.read()

    async with gateway_before(ScriptedService(pour), http=QuicklyCut) as gateway:
        reader, writer = await gateway.connect()
        writer.write(HANDSHAKE)
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(20):
                await reader.readexactly(whole // 20)
                await asyncio.sleep(0.05)
        await closed(writer)


@pytest.mark.parametrize("answer", [SWITCH.replace(b"Upgrade: websocket\r\n", b""), SWITCH])
async def test_a_switch_that_nobody_asked_for_is_no_answer(answer: bytes) -> None:
    async with gateway_before(ScriptedService(says(answer))) as gateway:
        reply = await gateway.ask(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
        assert reply.status == 503
