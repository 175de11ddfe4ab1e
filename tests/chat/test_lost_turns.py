"""A process that dies in the middle of an answer, and the one that cleans up after it."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from bwenge.chat.settings import ChatSettings
from bwenge.kit.ids import new_id
from bwenge.persona.contract import ReplyDelta
from tests.chat.conftest import StartServer
from tests.chat.scripted import SECONDS, Gate, School, ScriptedReplies, answering, joined, kinds, numbers, reply

ROOT = Path(__file__).parents[2]
EAGER_REAPER = ChatSettings(reap_seconds=0.05, drain_seconds=0.2)
LAZY = ChatSettings(reap_seconds=60, heartbeat_seconds=60, drain_seconds=0.2)
EXPIRE = "UPDATE turns SET lease_until = now() - interval '1 second'"


async def killed_in_the_middle(admin_url: URL, school: School) -> str:
    """Let another process begin an answer, and kill it; returns the session's id."""
    url = admin_url.render_as_string(hide_password=False)
    ids = [str(one) for one in (school.org_id, school.learner_id, school.persona_id)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chat.dying_owner", url, *ids, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(6 * SECONDS):
        started = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        await process.wait()
    return str(started["session_id"])


async def test_a_turn_whose_owner_was_killed_is_told_as_lost_and_the_session_is_usable_again(
    start_server: StartServer, committed_url: URL, school: School
) -> None:
    server = await start_server(ScriptedReplies(answering("Plants grow.")), EAGER_REAPER)
    session_id = await killed_in_the_middle(committed_url, school)
    client = await server.connect(session_id=session_id)
    info = await client.receive()
    question = await client.receive()

    await server.rows(EXPIRE)
    lost = await client.until("turn_finished")
    again = await client.whole_turn("What is it?")

    assert question["message"]["content"] == "What is it?"
    assert kinds(lost) == ["error", "typing", "turn_finished"]
    assert (lost[0]["code"], lost[0]["turn_id"]) == ("turn_lost", info["active_turn_id"])
    assert lost[-1]["finish_reason"] == "error"
    assert numbers(lost) == [513, 514]
    assert joined(again) == "Plants grow."
    assert numbers(again) == list(range(515, 521))


async def test_a_turn_left_by_a_killed_process_is_ended_when_the_next_one_starts(
    start_server: StartServer, committed_url: URL, school: School
) -> None:
    first = await start_server(ScriptedReplies(answering("Yes.")), LAZY)
    session_id = await killed_in_the_middle(committed_url, school)
    await first.rows(EXPIRE)

    second = await start_server(ScriptedReplies(answering("Yes.")), LAZY)

    assert await second.rows("SELECT state FROM turns") == [{"state": "lost"}]
    client = await second.opened(session_id=session_id)
    await client.until("message")
    assert joined(await client.whole_turn("And now?")) == "Yes."


async def test_a_heartbeat_keeps_a_turn_from_the_reaper(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]), LAZY)
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")
    await server.rows(EXPIRE)

    await server.feature.leases.heartbeat()
    await server.feature.leases.reap()
    gate.opened.set()
    ending = await client.until("turn_finished")

    assert ending[-1]["finish_reason"] == "stop"


async def test_an_owner_that_was_declared_dead_falls_silent_and_its_reader_is_told_once(
    start_server: StartServer,
) -> None:
    gate = Gate()
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), gate, reply("Yes")]), LAZY)
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")

    await server.rows(EXPIRE)
    await server.feature.leases.reap()
    ending = await client.until("turn_finished")
    gate.opened.set()

    assert kinds(ending) == ["error", "typing", "turn_finished"]
    assert await client.answers_to_ping() == []
    assert server.replies.closed.is_set()


async def test_a_turn_that_another_process_ended_is_stopped_by_the_next_heartbeat(start_server: StartServer) -> None:
    settings = ChatSettings(heartbeat_seconds=0.05, reap_seconds=60, drain_seconds=0.2)
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), Gate()]), settings)
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")

    await server.rows("UPDATE turns SET state = 'lost'")

    async with asyncio.timeout(SECONDS):
        await server.replies.closed.wait()


async def test_lease_keeping_outlives_a_database_that_is_away_for_a_moment(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(ScriptedReplies([ReplyDelta("Yes"), Gate()]), EAGER_REAPER)
    failed = asyncio.Event()

    async def away() -> list[object]:
        failed.set()
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(server.feature.leases._records, "end_expired", away)
        await asyncio.wait_for(failed.wait(), SECONDS)
    client = await server.opened()
    await client.ask("Is it?")
    await client.until("delta")
    await server.rows("UPDATE turns SET lease_until = now() - interval '1 hour', owner = :owner", owner=new_id().hex)

    assert (await client.until("turn_finished"))[0]["code"] == "turn_lost"
