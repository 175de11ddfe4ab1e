import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from bwenge.chat.errors import TooManySockets
from bwenge.chat.hub import Outlet, QueueLimits, SessionHub
from bwenge.chat.protocol import CloseCode, Delta, Detail, Pong, Typing

KEZA = UUID("01900000-0000-7000-8000-000000000001")
MUGABO = UUID("01900000-0000-7000-8000-000000000002")
SESSION = UUID("01900000-0000-7000-8000-000000000003")
OTHER_SESSION = UUID("01900000-0000-7000-8000-000000000004")


def outlet(
    *,
    user_id: UUID = KEZA,
    session_id: UUID = SESSION,
    detail: Detail = "full",
    frames: int = 1_000,
    size: int = 1 << 20,
) -> Outlet:
    return Outlet(user_id=user_id, session_id=session_id, detail=detail, limits=QueueLimits(frames=frames, bytes=size))


def delta(seq: int, text: str = "a", *, session_id: UUID = SESSION) -> Delta:
    return Delta(session_id=session_id, seq=seq, turn_id=SESSION, text=text)


PONG = Pong(session_id=SESSION)


async def sent(outlet: Outlet) -> list[Any]:
    """What is queued, then the close code, if there is one."""
    received: list[Any] = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                item = await outlet.next()
        except TimeoutError:
            return received
        received.append(item if isinstance(item, CloseCode) else json.loads(item))
        if isinstance(item, CloseCode):
            return received


def seqs(items: list[Any]) -> list[int | None]:
    return [item.get("seq") for item in items]


async def test_live_frames_follow_the_greeting_however_early_they_came() -> None:
    socket = outlet()
    socket.publish(delta(1))

    socket.greet([PONG], floor=0)
    socket.publish(delta(2))

    assert seqs(await sent(socket)) == [None, 1, 2]


async def test_live_frames_that_the_greeting_covers_are_left_out_early_or_late() -> None:
    socket = outlet()
    socket.publish(delta(4))
    socket.publish(delta(6))

    socket.greet([], floor=5)
    socket.publish(delta(5))
    socket.publish(delta(7))

    assert seqs(await sent(socket)) == [6, 7]


async def test_frames_without_a_number_are_not_left_out() -> None:
    socket = outlet()
    socket.greet([], floor=5)

    socket.publish(Typing(session_id=SESSION, is_typing=True))

    assert [item["type"] for item in await sent(socket)] == ["typing"]


async def test_a_text_socket_joins_live_frames() -> None:
    socket = outlet(detail="text")
    socket.greet([], floor=0)

    for seq, text in enumerate(("Plants ", "grow.", " And"), start=1):
        socket.publish(delta(seq, text))

    assert [(item["seq"], item["text"]) for item in await sent(socket)] == [(2, "Plants grow.")]


async def test_closing_sends_first_what_is_queued_and_nothing_after() -> None:
    socket = outlet()
    socket.greet([], floor=0)
    socket.publish(delta(1))

    socket.close(CloseCode.RESTART)
    socket.publish(delta(2))

    [frame, code] = await sent(socket)
    assert frame["seq"] == 1
    assert code == CloseCode.RESTART
    assert socket.closing.is_set()


async def test_only_the_first_close_code_counts() -> None:
    socket = outlet()

    socket.close(CloseCode.BINARY)
    socket.close(CloseCode.RESTART)

    assert await sent(socket) == [CloseCode.BINARY]


@pytest.mark.parametrize("limits", [{"frames": 3}, {"size": 400}])
async def test_a_full_queue_is_thrown_away_and_the_socket_closed(limits: dict[str, int]) -> None:
    socket = outlet(**limits)  # type: ignore[arg-type]  # the two limits are numbers
    socket.greet([], floor=0)

    for seq in range(1, 6):
        socket.publish(delta(seq))

    assert await sent(socket) == [CloseCode.SLOW_READER]


async def test_a_queue_that_is_emptied_in_time_is_never_full() -> None:
    socket = outlet(frames=1, size=200)
    socket.greet([], floor=0)

    for seq in range(1, 6):
        socket.publish(delta(seq))
        assert seqs(await sent(socket)) == [seq]


async def test_a_frame_wakes_the_writer_that_waits_for_one() -> None:
    socket = outlet()
    socket.greet([], floor=0)
    waiting = asyncio.create_task(socket.next())
    await asyncio.sleep(0)

    socket.publish(delta(1))

    async with asyncio.timeout(1):
        assert isinstance(await waiting, str)


async def test_frames_go_to_the_sockets_of_their_session_only() -> None:
    hub = SessionHub(sockets_per_user=8)
    phone, desktop, other = outlet(), outlet(), outlet(session_id=OTHER_SESSION)
    for socket in (phone, desktop, other):
        hub.join(socket)
        socket.greet([], floor=0)

    hub.publish(delta(1))

    assert [seqs(await sent(socket)) for socket in (phone, desktop, other)] == [[1], [1], []]


async def test_a_socket_that_left_receives_nothing() -> None:
    hub = SessionHub(sockets_per_user=8)
    socket = outlet()
    hub.join(socket)
    socket.greet([], floor=0)

    hub.leave(socket)
    hub.publish(delta(1))

    assert await sent(socket) == []
    assert hub.session_ids() == []


async def test_a_user_has_so_many_sockets_and_no_more() -> None:
    hub = SessionHub(sockets_per_user=2)
    first = outlet()
    hub.join(first)
    hub.join(outlet(session_id=OTHER_SESSION))

    with pytest.raises(TooManySockets):
        hub.join(outlet())
    hub.join(outlet(user_id=MUGABO))
    hub.leave(first)

    hub.join(outlet())


async def test_closing_a_session_closes_its_sockets_only() -> None:
    hub = SessionHub(sockets_per_user=8)
    socket, other = outlet(), outlet(session_id=OTHER_SESSION)
    hub.join(socket)
    hub.join(other)

    hub.close_session(SESSION, CloseCode.SESSION_DELETED)

    assert await sent(socket) == [CloseCode.SESSION_DELETED]
    assert not other.closing.is_set()
