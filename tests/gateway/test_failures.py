"""Services that refuse, break off, fall silent or answer early, and clients that leave."""

import asyncio
import json
import time
from collections.abc import Awaitable
from itertools import product

import pytest
from prometheus_client import REGISTRY

from bwenge.gateway.downstream import GatewayHTTPProtocol
from bwenge.gateway.settings import GatewaySettings
from tests.support.gateways import (
    GOOD_TOKEN,
    OK,
    PATIENCE,
    Received,
    RunningGateway,
    ScriptedService,
    breaks_off_after,
    closed,
    gateway_before,
    listening,
    read_reply,
    running_gateway,
    says,
)
from tests.support.platform import free_port
from tests.support.waiting import comes_true

GET = b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: h\r\n"
QUICK = GatewaySettings(head_seconds=0.2, idle_seconds=0.2, stall_seconds=0.2, pool_wait_seconds=0.2)


def counted(outcome: str) -> float:
    labels = {"service": "service", "outcome": outcome}
    return REGISTRY.get_sample_value("bwenge_gateway_requests_total", labels) or 0.0


async def within_patience(awaited: Awaitable[bytes]) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await awaited


async def ended(service: ScriptedService, times: int = 1) -> bool:
    return service.ended >= times


async def test_an_early_refusal_reaches_a_client_that_is_still_sending(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    async def refuse(received: Received) -> None:
        received.writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        await received.reader.read()  # until the gateway gives the rest up

    service.script = refuse
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        writer.write(POST + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 100_000)
        reply = await read_reply(reader)
        assert (reply.status, reply.body, reply.all_of(b"connection")) == (413, b"large", [b"close"])
        await comes_true(lambda: ended(service), "the service's end of the upload")
        assert await reader.read() == b""
    await closed(writer)


async def test_a_client_that_leaves_in_its_upload_takes_the_services_connection_along(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    _, writer = await gateway.connect()
    writer.write(POST + b"Content-Length: 1000\r\n\r\nabc")
    await comes_true(lambda: arrived(service), "the request")
    writer.transport.abort()
    await comes_true(lambda: ended(service), "the end of the service's connection", seconds=5)


async def arrived(service: ScriptedService) -> bool:
    return bool(service.requests)


@pytest.mark.parametrize("begins", [True, False], ids=["in a silent stream", "before the head"])
async def test_a_client_that_leaves_is_noticed_while_nothing_flows(
    service: ScriptedService, gateway: RunningGateway, *, begins: bool
) -> None:
    async def stream(received: Received) -> None:
        if begins:
            received.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await received.reader.read()

    service.script = stream
    before = counted("left")
    reader, writer = await gateway.connect()
    writer.write(GET)
    if begins:
        await reader.readuntil(b"a\r\n")
    else:
        await comes_true(lambda: arrived(service), "the request")
    await closed(writer)
    await comes_true(lambda: ended(service), "the end of the service's connection", seconds=5)
    assert counted("left") == before + 1


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_broken_off_is_broken_off_for_the_client(
    service: ScriptedService, gateway: RunningGateway, beginning: bytes
) -> None:
    service.script = breaks_off_after(beginning)
    before = counted("broken"), counted("answered")
    reader, writer = await gateway.connect()
    writer.write(GET)
    with pytest.raises((asyncio.IncompleteReadError, ValueError)):
        await asyncio.wait_for(read_reply(reader), PATIENCE)
    await closed(writer)
    assert (counted("broken"), counted("answered")) == (before[0] + 1, before[1])


async def test_an_answer_without_an_end_is_broken_off_for_an_old_client(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    beginning = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    service.script = breaks_off_after(beginning)
    reader, writer = await gateway.connect()
    writer.write(b"GET /echo HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await within_patience(reader.read())
    await closed(writer)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 O", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000]
)
async def test_a_service_that_gives_no_answer_is_unavailable(
    service: ScriptedService, gateway: RunningGateway, answer: bytes
) -> None:
    async def end(received: Received) -> None:
        received.writer.write(answer)
        received.writer.close()

    service.script = end
    reply = await gateway.ask(GET)
    assert (reply.status, json.loads(reply.body)["code"]) == (503, "service_unavailable")
    assert int(reply.all_of(b"retry-after")[0]) > 0


async def test_a_service_that_is_silent_has_timed_out(service: ScriptedService) -> None:
    async def wait(received: Received) -> None:
        await received.reader.read()

    service.script = wait
    before = counted("timed_out")
    async with gateway_before(service, settings=QUICK) as gateway:
        reply = await gateway.ask(GET)
    assert (reply.status, json.loads(reply.body)["code"]) == (503, "service_timed_out")
    assert counted("timed_out") == before + 1


async def test_a_route_may_give_its_service_more_time(service: ScriptedService) -> None:
    async def think(received: Received) -> None:
        await asyncio.sleep(QUICK.head_seconds * 2)
        received.writer.write(OK)

    service.script = think
    async with gateway_before(service, settings=QUICK) as gateway:
        assert (await gateway.ask(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
        assert (await gateway.ask(GET)).status == 503


async def test_an_upload_that_takes_longer_than_an_answer_may_is_in_time(service: ScriptedService) -> None:
    async with gateway_before(service, settings=GatewaySettings(head_seconds=0.4)) as gateway:
        reader, writer = await gateway.connect()
        writer.write(POST + b"Content-Length: 6\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.15)
            writer.write(b"a")
        assert (await asyncio.wait_for(read_reply(reader), PATIENCE)).status == 200
        await closed(writer)


async def test_a_stream_that_falls_silent_is_broken_off(service: ScriptedService) -> None:
    async def wait(received: Received) -> None:
        received.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await received.reader.read()

    service.script = wait
    async with gateway_before(service, settings=QUICK) as gateway:
        assert (await gateway.ask_all(GET)).endswith(b"1\r\na\r\n")


async def test_a_service_that_takes_nothing_of_a_body_has_timed_out(service: ScriptedService) -> None:
    never = asyncio.Event()

    async def take_nothing(received: Received) -> None:
        received.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads, too
        await never.wait()

    service.script = take_nothing
    settings = GatewaySettings(stall_seconds=0.2)
    body = b"a" * 20_000_000
    async with gateway_before(service, settings=settings) as gateway:
        reply = await gateway.ask(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (reply.status, json.loads(reply.body)["code"]) == (503, "service_timed_out")
        never.set()


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
async def test_what_may_be_asked_twice_waits_for_a_service_that_is_about_to_listen(method: bytes) -> None:
    service = ScriptedService(port=free_port())
    async with running_gateway({"service": f"http://127.0.0.1:{service.port}"}) as gateway:
        asking = asyncio.create_task(gateway.ask(method + GET[3:]))
        await comes_true(lambda: is_working(gateway), "the gateway's first attempt")
        async with listening(service):
            assert (await asking).body == b"ok"


async def is_working(gateway: RunningGateway) -> bool:
    return bool(gateway.server.server_state.tasks)


async def test_a_post_is_not_tried_again() -> None:
    async with running_gateway({"service": f"http://127.0.0.1:{free_port()}"}) as gateway:
        started = time.monotonic()
        reply = await gateway.ask(POST + b"Content-Length: 0\r\n\r\n")
        assert reply.status == 503
        assert time.monotonic() - started < 0.2


@pytest.mark.parametrize(
    ("method", "ending"),
    list(product([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"], ["at once", "in the head", "after another answer"])),
)
async def test_no_request_reaches_a_service_twice(
    service: ScriptedService, gateway: RunningGateway, method: bytes, ending: str
) -> None:
    async def end(received: Received) -> None:
        if ending == "in the head":
            received.writer.write(b"HTTP/1.1 ")
            await received.writer.drain()
        if ending == "after another answer" and len(service.requests) == 1:
            received.writer.write(OK)
        else:
            received.writer.close()

    service.script = end
    request = method + b" /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    if ending == "after another answer":
        assert (await gateway.ask(request)).status == 200
    before = len(service.requests)
    assert (await gateway.ask(request)).status == 503
    assert len(service.requests) == before + 1


async def test_a_kept_connection_that_the_service_closed_is_not_used(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    service.script = breaks_off_after(OK)
    for number in range(3):
        assert (await gateway.ask(POST + b"Content-Length: 0\r\n\r\n")).status == 200
        await comes_true(lambda: ended(service, number + 1), "the end of the connection")  # noqa: B023  # awaited here
        await comes_true(lambda: no_connection(gateway), "the gateway's notice of it")
    assert service.connections == 3


async def no_connection(gateway: RunningGateway) -> bool:
    return gateway.feature.services["service"].pool.open_connections == 0


async def test_what_a_service_says_unasked_spoils_its_connection(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    service.script = says(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    for _ in range(2):
        assert (await gateway.ask(GET)).body == b"ok"
    assert service.connections == 2


async def test_a_service_that_fails_is_left_alone_and_tried_again(service: ScriptedService) -> None:
    async def fail(received: Received) -> None:
        received.writer.close()

    service.script = fail
    settings = GatewaySettings(circuit_seconds=0.3)
    async with gateway_before(service, settings=settings) as gateway:
        for _ in range(5):
            assert (await gateway.ask(GET)).status == 503
        refused = await gateway.ask(GET)
        assert (refused.status, refused.all_of(b"retry-after")) == (503, [b"1"])
        assert len(service.requests) == 5
        assert REGISTRY.get_sample_value("bwenge_gateway_circuit_open", {"service": "service"}) == 1
        service.script = says(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")

        async def is_let_through() -> bool:
            return (await gateway.ask(GET)).status == 500

        await comes_true(is_let_through, "the probe")
        assert len(service.requests) == 6
        assert (await gateway.ask(GET)).status == 500  # any answer closes the circuit


async def test_a_service_that_waits_no_longer_for_its_clients_has_not_failed(service: ScriptedService) -> None:
    async def give_up(received: Received) -> None:
        if received.first_line.startswith(b"POST"):
            received.writer.close()
        else:
            received.writer.write(OK)

    service.script = give_up
    async with gateway_before(service, settings=GatewaySettings(circuit_failures=2)) as gateway:
        for _ in range(3):
            assert (await gateway.ask(POST + b"Content-Length: 100\r\n\r\na")).status == 503
        assert (await gateway.ask(GET)).status == 200


async def test_more_requests_than_connections_wait_for_one(service: ScriptedService) -> None:
    go_on = asyncio.Event()

    async def wait(received: Received) -> None:
        await go_on.wait()
        received.writer.write(OK)

    service.script = wait
    async with gateway_before(service, settings=GatewaySettings(max_connections=2)) as gateway:
        asked = [asyncio.create_task(gateway.ask(GET)) for _ in range(5)]
        await comes_true(lambda: has_requests(service, 2), "two requests")
        go_on.set()
        assert [(await one).status for one in asked] == [200] * 5
        assert service.connections == 2


async def has_requests(service: ScriptedService, number: int) -> bool:
    return len(service.requests) >= number


async def test_a_request_that_finds_no_connection_in_time_is_told_so(service: ScriptedService) -> None:
    async def wait(received: Received) -> None:
        await received.reader.read()

    service.script = wait
    settings = GatewaySettings(max_connections=1, pool_wait_seconds=0.1)
    async with gateway_before(service, settings=settings) as gateway:
        _, writer = await gateway.connect()
        writer.write(GET)
        await comes_true(lambda: has_requests(service, 1), "the first request")
        reply = await gateway.ask(GET)
        assert (reply.status, json.loads(reply.body)["code"]) == (503, "service_unavailable")
        await closed(writer)


async def test_a_connection_that_was_idle_for_too_long_is_not_used(service: ScriptedService) -> None:
    async with gateway_before(service, settings=GatewaySettings(pool_idle_seconds=0.0)) as gateway:
        await gateway.ask(GET)
        await gateway.ask(GET)
        assert service.connections == 2


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("", 401),
        ("Authorization: Basic x\r\n", 401),
        ("Authorization: Bearer\r\n", 401),
        ("Authorization: Bearer bad.token\r\n", 401),
        (f"Authorization: Bearer {GOOD_TOKEN}\r\n", 200),
        (f"authorization: bearer {GOOD_TOKEN}\r\n", 200),
        ("Authorization: Bearer bwk_whatever\r\n", 200),
    ],
)
async def test_a_request_without_a_token_costs_the_service_nothing(
    service: ScriptedService, gateway: RunningGateway, line: str, status: int
) -> None:
    reply = await gateway.ask(f"GET /private?token={GOOD_TOKEN} HTTP/1.1\r\nHost: h\r\n{line}\r\n".encode())
    assert reply.status == status
    assert len(service.requests) == (status == 200)
    if status == 401:
        assert (json.loads(reply.body)["code"], reply.all_of(b"www-authenticate")) == ("unauthenticated", [b"Bearer"])


async def test_a_preflight_needs_no_token(gateway: RunningGateway) -> None:
    assert (await gateway.ask(b"OPTIONS /private HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200


async def test_a_body_whose_length_is_too_large_is_refused_before_it_comes(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    reply = await gateway.ask(b"POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n")
    assert (reply.status, json.loads(reply.body)["code"]) == (413, "too_large")
    assert service.requests == []


async def test_a_body_that_grows_too_large_is_cut_off(service: ScriptedService, gateway: RunningGateway) -> None:
    chunk = b"6\r\nabcdef\r\n"
    reply = await gateway.ask(b"POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2)
    assert (reply.status, json.loads(reply.body)["code"]) == (413, "too_large")
    await comes_true(lambda: all_ended(service), "the end of the service's connection")
    assert all(received.body == b"" for received in service.requests)


async def all_ended(service: ScriptedService) -> bool:
    return service.ended == service.connections


async def test_a_client_that_takes_nothing_is_cut_off_and_the_service_is_not_read_to_the_end(
    service: ScriptedService,
) -> None:
    class QuicklyCut(GatewayHTTPProtocol):
        silence_seconds = 0.3

    written = 0

    async def pour(received: Received) -> None:
        nonlocal written
        received.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            received.writer.write(b"a" * 1_000_000)
            await received.writer.drain()
            written += 1

    service.script = pour
    async with gateway_before(service, http=QuicklyCut) as gateway:
        reader, writer = await gateway.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # as above
        writer.write(GET)
        await comes_true(lambda: ended(service), "the end of the service's connection")
        assert written < 100
        await closed(writer)
        del reader


async def test_readiness_is_what_each_service_says(service: ScriptedService) -> None:
    async with gateway_before(service) as gateway:
        check = gateway.feature.readiness_checks["service"]
        await check()
        assert service.requests[0].first_line == b"GET /health/ready HTTP/1.1"
        service.script = says(b"HTTP/1.1 503 Not yet\r\nContent-Length: 3\r\n\r\nabc")
        with pytest.raises(Exception, match="does not answer"):
            await check()
