"""Whatever a body holds and however it is cut, the other side gets the same bytes."""

import asyncio
import random

import pytest

from tests.support.gateways import PATIENCE, Received, ScriptedService, closed, gateway_before, read_reply


def cut(body: bytes, chance: random.Random) -> list[bytes]:
    """Pieces of one byte up to 100,000, in order."""
    pieces = []
    while body:
        size = chance.choice([1, 2, 1000, 65_536, 100_000])
        pieces.append(body[:size])
        body = body[size:]
    return pieces


def framed(head: bytes, pieces: list[bytes], *, is_chunked: bool) -> list[bytes]:
    if not is_chunked:
        return [head + b"Content-Length: %d\r\n\r\n" % sum(map(len, pieces)), *pieces]
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [head + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n"]


async def write_all(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


@pytest.mark.parametrize("seed", range(12))
async def test_a_body_is_the_same_on_the_other_side(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # the same bodies in each run
    up, down = (chance.randbytes(chance.choice([0, 1, 70_000, 1_500_000])) for _ in range(2))
    up_is_chunked, down_is_chunked = chance.random() < 0.5, chance.random() < 0.5

    async def answer(received: Received) -> None:
        await received.read_body()
        pieces = framed(b"HTTP/1.1 200 OK\r\n", cut(down, chance), is_chunked=down_is_chunked)
        await write_all(received.writer, pieces)

    service = ScriptedService(answer)
    async with gateway_before(service) as gateway:
        reader, writer = await gateway.connect()
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):  # the second over connections that were kept
                await write_all(
                    writer,
                    framed(b"PUT /echo HTTP/1.1\r\nHost: h\r\n", cut(up, chance), is_chunked=up_is_chunked),
                )
                assert (await read_reply(reader)).body == down
        await closed(writer)
    assert [received.body for received in service.requests] == [up, up]
    assert service.connections == 1
