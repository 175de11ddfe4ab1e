"""Small bodies are read whole before their service is asked."""

import asyncio

import pytest

from bwenge.gateway.settings import GatewaySettings
from tests.support.gateways import PATIENCE, RunningGateway, ScriptedService, closed, gateway_before, read_reply
from tests.support.waiting import comes_true

GET = b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_bodies_that_never_come_take_no_connection_from_others(service: ScriptedService) -> None:
    async with gateway_before(service, settings=GatewaySettings(max_connections=2, pool_wait_seconds=0.2)) as gateway:
        slow = [await gateway.connect() for _ in range(5)]
        for _, writer in slow:
            writer.write(b"POST /form HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\na")
        await comes_true(lambda: are_working(gateway, 5), "the slow requests")
        assert (await gateway.ask(GET)).status == 200
        assert len(service.requests) == 1
        for reader, writer in slow:
            writer.write(b"a" * 99)
            assert (await asyncio.wait_for(read_reply(reader), PATIENCE)).status == 200
            await closed(writer)
        assert {received.body for received in service.requests[1:]} == {b"a" * 100}


async def are_working(gateway: RunningGateway, number: int) -> bool:
    return len(gateway.server.server_state.tasks) >= number


@pytest.mark.parametrize("framing", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
async def test_a_small_body_arrives_as_it_was_framed(
    service: ScriptedService, gateway: RunningGateway, framing: bytes
) -> None:
    pieces = [b"ab", b"c"] if b"Length" in framing else [b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n"]
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            writer.write(b"POST /form HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n\r\n" + pieces[0])
            await asyncio.sleep(0.02)
            writer.write(pieces[1])
            assert (await read_reply(reader)).body == b"ok"
    await closed(writer)
    name, _, value = framing.lower().partition(b": ")
    for received in service.requests:
        assert received.body == b"abc"
        assert received.all_of(name) == [value]
    assert service.connections == 1


async def test_a_small_body_that_does_not_come_in_time_is_told_so(service: ScriptedService) -> None:
    async with gateway_before(service, settings=GatewaySettings(body_seconds=0.3)) as gateway:
        reader, writer = await gateway.connect()
        writer.write(b"POST /form HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            reading = asyncio.create_task(read_reply(reader))
            while not reading.done():
                writer.write(b"a")
                await asyncio.sleep(0.05)
            reply = await reading
            assert (reply.status, reply.all_of(b"connection")) == (408, [b"close"])
            assert reply.all_of(b"content-type") == [b"application/problem+json"]
            assert await reader.read() == b""
        await closed(writer)
        assert service.connections == 0
