"""The scripted server itself, as tests and benches rely on it."""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.support.model_server import Fault, ModelServer, Script

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "How are you today?"}]}
REPOSITORY = Path(__file__).parents[3]


@contextlib.asynccontextmanager
async def server_process(script: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.model_server", "--script", script),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def test_without_stream_the_answer_comes_whole() -> None:
    async with ModelServer(Script(tokens=("a", "b"))) as server, httpx2.AsyncClient() as client:
        answer = (await client.post(f"{server.base_url}/chat/completions", json=QUESTION)).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "ab"}
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


async def test_the_models_are_listed() -> None:
    async with ModelServer(model="m-7") as server, httpx2.AsyncClient() as client:
        listing = (await client.get(f"{server.base_url}/models")).json()
    assert [model["id"] for model in listing["data"]] == ["m-7"]


async def test_keys_are_not_kept() -> None:
    async with ModelServer() as server, httpx2.AsyncClient() as client:
        headers = {"Authorization": "Bearer sk-secret", "X-Trace": "kept"}
        await client.post(f"{server.base_url}/chat/completions", json=QUESTION, headers=headers)
    assert server.requests[0].headers["authorization"] == "redacted"
    assert server.requests[0].headers["x-trace"] == "kept"


async def test_the_time_of_each_token_is_recorded() -> None:
    before = time.monotonic()
    async with ModelServer(Script(tokens=("a", "b", "c"), delay=0.01)) as server, httpx2.AsyncClient() as client:
        await client.post(f"{server.base_url}/chat/completions", json=QUESTION | {"stream": True})
    request = server.requests[0]
    times = [before, request.received_at, *request.token_times, time.monotonic()]
    assert len(request.token_times) == 3
    assert times == sorted(times)
    assert all(later - earlier >= 0.009 for earlier, later in itertools.pairwise(request.token_times))


async def test_queued_scripts_are_played_before_the_standing_one() -> None:
    async with ModelServer() as server, httpx2.AsyncClient() as client:
        server.scripts = [Script(status=500), Script(status=429)]
        statuses = [
            (await client.post(f"{server.base_url}/chat/completions", json=QUESTION)).status_code for _ in range(3)
        ]
    assert statuses == [500, 429, 200]


async def test_a_stopped_server_leaves_no_stalled_connection_behind() -> None:
    async with asyncio.timeout(10):
        async with ModelServer(Script(fault=Fault.STALL, fault_after=1)) as server, httpx2.AsyncClient() as client:
            url = f"{server.base_url}/chat/completions"
            async with client.stream("POST", url, json=QUESTION | {"stream": True}) as response:
                await server.stop()
                with pytest.raises(httpx2.TransportError):
                    await response.aread()


async def test_as_a_process_it_answers_by_its_script_and_tells_its_records() -> None:
    async with server_process('{"echo": true, "delay": 0.001}') as base_url, httpx2.AsyncClient() as client:
        body = (await client.post(f"{base_url}/chat/completions", json=QUESTION | {"stream": True})).text
        records = (await client.get(base_url.removesuffix("/v1") + "/_records")).json()
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"].get("content", "") for event in events for choice in event["choices"]]
    assert "".join(deltas) == "How are you today?"
    assert len(records[0]["token_times"]) == 4


def test_a_script_is_read_from_json() -> None:
    script = Script.from_json('{"tokens": ["a"], "fault": "cut", "fault_after": 1, "refused_parameters": ["x"]}')
    assert script == Script(tokens=("a",), fault=Fault.CUT, fault_after=1, refused_parameters=("x",))
