"""What a connection to a service leaves behind."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest

from bwenge.gateway.upstream import UpstreamConnection
from tests.support.gateways import OK


async def test_an_answer_leaves_no_timer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    call_later = loop.call_later

    def recorded(delay: float, callback: Any, *given: Any) -> asyncio.TimerHandle:
        timer = call_later(delay, callback, *given)
        if "require_activity" in callback.__qualname__:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", recorded)
    connection = UpstreamConnection(on_lost=Mock())
    transport = Mock()
    transport.is_closing.return_value = False
    connection.connection_made(transport)
    connection.begin(b"", is_to_head=False, has_body=True)
    waiting = asyncio.create_task(connection.head(seconds=0.2))
    await asyncio.sleep(0.1)
    await connection.write(b"a", seconds=1)
    while len(timers) == 1:  # noqa: ASYNC110  # timers tell nobody
        await asyncio.sleep(0.005)
    connection.data_received(OK)
    assert (await waiting).status == 200
    assert len(timers) == 2
    assert timers[1].cancelled()
