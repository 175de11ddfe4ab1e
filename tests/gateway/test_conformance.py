"""What passes through the gateway arrives as it was sent. Raw bytes on both sides."""

import asyncio
import json

import pytest

from tests.support.gateways import (
    OK,
    PATIENCE,
    Received,
    RunningGateway,
    ScriptedService,
    breaks_off_after,
    closed,
    read_reply,
    says,
)

BODILESS = {204, 304}
MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a b.pdf"\r\n\r\n'
    + bytes(range(256)) * 500
    + b"\r\n--x--\r\n"
)


def get(path: str = "/echo", *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "status", [200, 201, 202, 206, 301, 302, 307, 400, 401, 404, 409, 416, 422, 429, 500, 503, 599]
)
async def test_a_status_passes_with_its_body(service: ScriptedService, gateway: RunningGateway, status: int) -> None:
    service.script = says(b"HTTP/1.1 %d Whatever\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc" % status)
    reply = await gateway.ask(get())
    assert (reply.status, reply.body, reply.all_of(b"x-a")) == (status, b"abc", [b"b"])


async def test_fields_keep_their_order_their_values_and_their_duplicates(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    given = [
        (b"set-cookie", b"a=1; Path=/"),
        (b"x-b", b"1"),
        (b"set-cookie", b"b=2; Path=/"),
        (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (b"server", b"uvicorn"),
        (b"content-length", b"0"),
    ]
    service.script = says(b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % one for one in given) + b"\r\n")
    reply = await gateway.ask(get("/echo", "Accept: a", "X-Twice: 1", "Accept-Language: rw", "X-Twice: 2"))
    assert reply.fields[:-1] == given
    assert reply.fields[-1][0] == b"x-request-id"
    sent = [(b"host", b"h"), (b"accept", b"a"), (b"x-twice", b"1"), (b"accept-language", b"rw"), (b"x-twice", b"2")]
    assert service.requests[0].fields[:5] == sent


@pytest.mark.parametrize(
    "target", ["/echo?a=%20b&c=+&d", "/things/a%2Fb%41?x=%zz", "/things/%C3%A9", "/echo?", "/echo?a?b"]
)
async def test_the_target_is_not_touched(service: ScriptedService, gateway: RunningGateway, target: str) -> None:
    await gateway.ask(get(target))
    if target.startswith("/things/a%2F"):
        assert service.requests == []  # the service reads a slash there, too, and has no such route
    else:
        assert service.requests[0].first_line == f"GET {target} HTTP/1.1".encode()


async def test_a_target_in_absolute_form_of_the_same_host_is_made_relative(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    reply = await gateway.ask(get("http://h/echo?a=b"))
    assert reply.status == 200
    assert service.requests[0].first_line == b"GET /echo?a=b HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_method_passes(service: ScriptedService, gateway: RunningGateway, method: str) -> None:
    assert (await gateway.ask(get(method=method))).body == b"ok"
    assert service.requests[0].first_line.startswith(method.encode())


async def test_an_upload_with_a_length_arrives_byte_by_byte(service: ScriptedService, gateway: RunningGateway) -> None:
    head = get(
        "/echo", "Content-Type: multipart/form-data; boundary=x", f"Content-Length: {len(MULTIPART)}", method="POST"
    )
    assert (await gateway.ask(head + MULTIPART)).status == 200
    received = service.requests[0]
    assert received.body == MULTIPART
    assert received.all_of(b"content-length") == [str(len(MULTIPART)).encode()]
    assert received.all_of(b"transfer-encoding") == []


async def test_a_chunked_upload_stays_chunked_and_its_trailers_become_nothing(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    chunks = b"3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\nX-Trailer: a\r\n\r\n"
    await gateway.ask(get("/echo", "Transfer-Encoding: chunked", method="POST") + chunks)
    received = service.requests[0]
    assert received.body == b"abcdefgh"
    assert received.all_of(b"transfer-encoding") == [b"chunked"]
    assert received.all_of(b"content-length") == []
    assert received.all_of(b"x-trailer") == []
    assert received.all_of(b"x-forwarded-for") == [b"127.0.0.1"]


async def test_a_chunked_answer_stays_chunked_with_its_trailers(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    service.script = says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n"
        b"X-Sum: 7\r\nContent-Type: text/html\r\n\r\n"
    )
    reply = await gateway.ask(get())
    assert (reply.body, reply.trailers) == (b"abcd", [(b"x-sum", b"7")])
    assert reply.all_of(b"transfer-encoding") == [b"chunked"]
    assert reply.all_of(b"content-length") == []


async def test_an_answer_that_ends_with_its_connection_becomes_chunked(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    service.script = breaks_off_after(b"HTTP/1.1 200 OK\r\n\r\nabc")
    reply = await gateway.ask(get())
    assert (reply.body, reply.all_of(b"transfer-encoding")) == (b"abc", [b"chunked"])


async def test_http_1_0_gets_no_chunks(service: ScriptedService, gateway: RunningGateway) -> None:
    service.script = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    answer = await gateway.ask_all(b"GET /echo HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"abc"
    assert service.requests[0].all_of(b"host") == [f"127.0.0.1:{service.port}".encode()]


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-A: b\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nX-A: b\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: x\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n"),
    ],
)
async def test_an_answer_without_body_passes_and_the_connections_live_on(
    service: ScriptedService, gateway: RunningGateway, method: str, head: bytes
) -> None:
    service.script = says(head + b"\r\n")
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            writer.write(get(method=method))
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split(b"\r\n")[0].split()[1] == head.split()[1]
            assert (b"content-length: 1000" in answer) == (b"Content-Length" in head)
            assert b"transfer-encoding" not in answer
    await closed(writer)
    assert service.connections == 1


async def test_a_range_passes(service: ScriptedService, gateway: RunningGateway) -> None:
    service.script = says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\ncde"
    )
    reply = await gateway.ask(get("/echo", "Range: bytes=2-4", 'If-Range: "x"'))
    assert (reply.status, reply.body, reply.all_of(b"content-range")) == (206, b"cde", [b"bytes 2-4/10"])
    assert service.requests[0].all_of(b"range") == [b"bytes=2-4"]


async def test_interim_answers_are_kept_from_the_client(service: ScriptedService, gateway: RunningGateway) -> None:
    service.script = says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK)
    reply = await gateway.ask(get())
    assert (reply.status, reply.body, reply.all_of(b"link")) == (200, b"ok", [])


async def test_a_client_that_waits_to_continue_is_told_by_the_gateway(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        writer.write(get("/echo", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await read_reply(reader)).body == b"ok"
    await closed(writer)
    assert service.requests[0].all_of(b"expect") == []
    assert service.requests[0].body == b"abc"


async def test_fields_of_one_connection_stay_on_it(service: ScriptedService, gateway: RunningGateway) -> None:
    service.script = says(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 1\r\n"
        b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"
    )
    reply = await gateway.ask(
        get(
            "/echo",
            "Connection: keep-alive, X-Hop, Content-Length, Host",
            "Keep-Alive: 5",
            "X-Hop: 1",
            "X-End: 1",
            "TE: trailers",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic x",
            "Content-Length: 0",
        )
    )
    assert [name for name, _ in reply.fields] == [b"x-end", b"content-length", b"x-request-id", b"date"]
    assert {name for name, _ in service.requests[0].fields} == {
        *(b"host", b"x-end", b"content-length", b"via", b"x-request-id"),
        *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"),
    }


async def test_only_the_gateway_says_who_called(service: ScriptedService, gateway: RunningGateway) -> None:
    forged = ["For: 6.6.6.6", "Proto: https", "Host: evil", "Port: 1", "Anything: x"]
    reply = await gateway.ask(
        get(
            "/echo",
            *(f"X-Forwarded-{line}" for line in forged),
            "Forwarded: for=6.6.6.6",
            "X-Real-IP: 6.6.6.6",
            "X-Request-Id: mine",
            "Via: 1.0 fred",
        )
    )
    received = service.requests[0]
    assert [one for one in received.fields if one[0].startswith(b"x-forwarded")] == [
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-forwarded-host", b"h"),
    ]
    assert received.all_of(b"forwarded") == received.all_of(b"x-real-ip") == []
    assert received.all_of(b"via") == [b"1.0 fred", b"1.1 bwenge"]
    assert received.all_of(b"x-request-id") == reply.all_of(b"x-request-id") == [b"mine"]


async def test_events_arrive_as_they_are_sent(service: ScriptedService, gateway: RunningGateway) -> None:
    go_on = asyncio.Event()

    async def script(received: Received) -> None:
        received.writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            received.writer.write(b"9\r\ndata: %d\n\n\r\n" % number)
            await go_on.wait()
            go_on.clear()
        received.writer.write(b"0\r\n\r\n")

    service.script = script
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        writer.write(get())
        await reader.readuntil(b"\r\n\r\n")
        for number in range(3):
            assert await reader.readexactly(14) == b"9\r\ndata: %d\n\n\r\n" % number
            go_on.set()
        assert await reader.readexactly(5) == b"0\r\n\r\n"
    await closed(writer)


async def test_connections_are_used_again_on_both_sides(service: ScriptedService, gateway: RunningGateway) -> None:
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            writer.write(get())
            assert (await read_reply(reader)).body == b"ok"
    await closed(writer)
    assert (len(service.requests), service.connections) == (5, 1)


async def test_pipelined_requests_are_answered_in_their_order(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    async def script(received: Received) -> None:
        name = received.first_line.split()[1]
        received.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))

    service.script = script
    reader, writer = await gateway.connect()
    async with asyncio.timeout(PATIENCE):
        writer.write(b"".join(get(f"/things/{number}") for number in range(5)))
        assert [(await read_reply(reader)).body for _ in range(5)] == [b"/things/%d" % number for number in range(5)]
    await closed(writer)


async def test_the_gateways_own_answers_have_a_date_once(gateway: RunningGateway) -> None:
    reply = await gateway.ask(get("/unknown"))
    assert (reply.status, json.loads(reply.body)["code"]) == (404, "not_found")
    assert len(reply.all_of(b"date")) == 1
    assert reply.all_of(b"content-type") == [b"application/problem+json"]


async def test_a_method_that_the_route_has_not_is_the_services_to_refuse(
    service: ScriptedService, gateway: RunningGateway
) -> None:
    service.script = says(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, POST\r\nContent-Length: 0\r\n\r\n")
    assert (await gateway.ask(get("/private", method="DELETE"))).status == 405
