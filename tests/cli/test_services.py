"""`bwenge serve`, `bwenge healthcheck` and `bwenge up --split`, as far as they end before they serve."""

import asyncio
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.cli.conftest import Command
from tests.support.model_server import refused_port
from tests.support.platform import free_port, free_ports


@pytest.fixture
def taken() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


async def test_one_service_needs_a_database_that_is_named(bwenge: Command) -> None:
    ended = await bwenge("serve", "auth", "--port", str(free_port()))
    assert ended.code == 1
    assert "DATABASE_URL is not set" in ended.complaint
    assert "bwenge up --split" in ended.complaint


async def test_a_taken_port_is_told(bwenge: Command, taken: int) -> None:
    ended = await bwenge("serve", "gateway", "--port", str(taken))
    assert (ended.code, f"Cannot listen on 127.0.0.1:{taken}" in ended.complaint) == (1, True)


async def test_the_split_platform_looks_at_all_eight_ports_before_it_starts_anything(bwenge: Command) -> None:
    base = free_ports(8)
    with closing(socket.create_server(("127.0.0.1", base + 5))):
        ended = await bwenge("up", "--split", "--base-port", str(base))
    assert ended.code == 1
    assert f"Cannot listen on 127.0.0.1:{base + 5}" in ended.complaint
    assert "Starting" not in ended.output


async def test_without_redis_the_split_platform_says_what_it_needs(
    bwenge: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    ended = await bwenge("up", "--split", "--base-port", str(free_ports(8)))
    assert ended.code == 1
    assert "redis-server is not installed" in ended.complaint
    assert "REDIS_URL" in ended.complaint
    assert "Starting" not in ended.output


async def test_a_base_port_belongs_to_the_split_platform(bwenge: Command) -> None:
    assert (await bwenge("up", "--base-port", "9000")).code == 2


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1), (503, 1)])
async def test_a_process_is_healthy_when_it_says_so(bwenge: Command, status: int, code: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /health HTTP/1.1")
        writer.write(b"HTTP/1.1 %d Word\r\nContent-Length: 0\r\n\r\n" % status)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await bwenge("healthcheck", "--port", str(port))).code == code


async def test_a_process_that_does_not_answer_is_not(bwenge: Command) -> None:
    with refused_port() as port:
        ended = await bwenge("healthcheck", "--port", str(port))
    assert (ended.code, f"Nothing answers on port {port}" in ended.complaint) == (1, True)
