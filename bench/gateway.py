"""What the gateway costs between a client and a service: `python -m bench.gateway [--requests 4000]`.

The same load goes to the service itself, through the gateway, and through nginx where it is installed, each a process
of its own on the same machine; the client is raw sockets, so that it costs little.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import time
from collections.abc import Coroutine, Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import numpy as np
import psutil
import uvloop

from bench.gateway_processes import NGINX, PIECE, running

MIB: Final = 1024 * 1024
GROWTH_LIMIT_MIB: Final = 30.0
"""What 100 MB each way may add to the gateway's resident memory."""
WARM_UP: Final = 50
UPGRADE: Final = (
    b"GET /socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASKED_HELLO: Final = b"\x81\x85\0\0\0\0hello"
HELLO: Final = b"\x81\x05hello"

T = TypeVar("T")
Figures = dict[str, Any]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(*, requests: int = 4000, megabytes: int = 100, sockets: int = 1000) -> dict[str, Figures]:
    """Tables by what was asked: small answers one at a time and 8 at once, large bodies, WebSockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with TemporaryDirectory(prefix="bwenge-bench-", ignore_cleanup_errors=True) as name, _served(Path(name)) as ports:
        tables = {
            f"small answers, {connections} at once": _compare(ports, requests, connections) for connections in (1, 8)
        }
        tables[f"{megabytes} MB each way"] = large_bodies(ports, megabytes)
        tables[f"{sockets} WebSockets"] = web_sockets(ports, sockets)
    return tables


@contextlib.contextmanager
def _served(folder: Path, *, with_nginx: bool = True) -> Iterator[dict[str, tuple[int, int]]]:
    """Port and process id of each way to the service."""
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(running("service", folder))
        ways = {"direct": direct}
        ways["gateway"] = stack.enter_context(running("gateway", folder, service_port=direct[0]))
        if with_nginx and NGINX.exists():
            ways["nginx"] = stack.enter_context(running("nginx", folder, service_port=direct[0]))
        elif with_nginx:
            print(f"there is no {NGINX}, so nothing is compared with it")
        yield ways


def memory_growth(folder: Path, megabytes: int) -> Figures:
    """Of a gateway alone, by so much each way."""
    with _served(folder, with_nginx=False) as ways:
        return large_bodies(ways, megabytes)


def _compare(ways: dict[str, tuple[int, int]], requests: int, connections: int) -> Figures:
    figures: Figures = {"requests": requests}
    times: dict[str, list[float]] = {}
    for way, (port, _) in ways.items():
        _on_uvloop(_ask(port, WARM_UP * connections, connections))
        started = time.perf_counter()
        times[way] = _on_uvloop(_ask(port, requests, connections))
        figures[f"{way}_a_second"] = len(times[way]) / (time.perf_counter() - started)
    for way in list(times)[1:]:
        for percentile in (50, 95):
            added = np.percentile(times[way], percentile) - np.percentile(times["direct"], percentile)
            figures[f"{way}_p{percentile}_added_ms"] = float(added)
    if "nginx" in times:
        figures["gateway_to_nginx_ratio"] = figures["gateway_a_second"] / figures["nginx_a_second"]
    return figures


def large_bodies(ways: dict[str, tuple[int, int]], megabytes: int) -> Figures:
    """Seconds each way, and the most that the gateway's memory grew meanwhile; the limit stands beside it."""
    pieces = megabytes * MIB // len(PIECE)
    figures: Figures = {}
    for way, (port, pid) in ways.items():
        _on_uvloop(_ask(port, WARM_UP, 1))
        before = resident(pid)
        for name, transfer in (("download", _download), ("upload", _upload)):
            started = time.perf_counter()
            most = _on_uvloop(transfer(port, pid, pieces))
            figures[f"{way}_{name}_seconds"] = time.perf_counter() - started
            if way == "gateway":
                figures[f"{way}_{name}_growth_mib"] = most - before
    figures["growth_limit_mib"] = GROWTH_LIMIT_MIB
    return figures


def web_sockets(ways: dict[str, tuple[int, int]], number: int) -> Figures:
    """Open so many, echo once over each: KiB of the gateway and of nginx for each."""
    figures: Figures = {"sockets": number}
    for way, (port, pid) in list(ways.items())[1:]:
        before = resident(pid)
        started = time.perf_counter()
        after = _on_uvloop(_echo_over(port, pid, number))
        figures[f"{way}_seconds"] = time.perf_counter() - started
        figures[f"{way}_kib_a_socket"] = (after - before) * 1024 / number
    return figures


def resident(pid: int) -> float:
    """MiB."""
    return float(psutil.Process(pid).memory_info().rss / MIB)


def _on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _ask(port: int, requests: int, connections: int) -> list[float]:
    """Milliseconds of each request, over so many connections that are kept."""
    share = requests // connections
    return list(chain.from_iterable(await asyncio.gather(*(_ask_over_one(port, share) for _ in range(connections)))))


async def _ask_over_one(port: int, requests: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    for _ in range(requests):
        started = time.perf_counter()
        writer.write(b"GET /small?a=b HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n")
        await reader.readexactly(await _length(reader))
        taken.append((time.perf_counter() - started) * 1000)
    writer.close()
    return taken


async def _length(reader: asyncio.StreamReader) -> int:
    """Of the answer's body, after its head was read."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200 "), head
    return int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])


async def _download(port: int, pid: int, pieces: int) -> float:
    """The most MiB that the process held meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /download/%d HTTP/1.1\r\nHost: h\r\n\r\n" % pieces)
    left, most = await _length(reader), 0.0
    while left:
        left -= len(await reader.read(MIB))
        most = max(most, resident(pid))
    writer.close()
    return most


async def _upload(port: int, pid: int, pieces: int) -> float:
    """As `_download`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (pieces * len(PIECE)))
    most = 0.0
    for _ in range(pieces):
        writer.write(PIECE)
        await writer.drain()
        most = max(most, resident(pid))
    body = await reader.readexactly(await _length(reader))
    assert int(body) == pieces * len(PIECE)
    writer.close()
    return most


async def _echo_over(port: int, pid: int, number: int) -> float:
    """MiB of the process while all are open."""
    sockets = [await _open_socket(port) for _ in range(number)]
    await asyncio.gather(*(_echo_once(*streams) for streams in sockets))
    held = resident(pid)
    for _, writer in sockets:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in sockets), return_exceptions=True)
    return held


async def _open_socket(port: int) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


async def _echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(MASKED_HELLO)
    assert await reader.readexactly(len(HELLO)) == HELLO


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--sockets", type=int, default=1000)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}")
    print(json.dumps(run(**vars(options)), indent=2))


if __name__ == "__main__":
    main()
