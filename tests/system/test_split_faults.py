"""Each process of the split platform dies in turn while a school works: others go on, and nothing accepted is lost."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx2
import pytest

from bwenge.apps.topology import GATEWAY, SERVICES, port_of
from tests.support.platform import Caller, PlatformProcess
from tests.support.redis_server import require_redis
from tests.support.waiting import eventually
from tests.system.steady_load import Heard, Load
from tests.system.stored import StoredState
from tests.system.textbook import VILLAGES, write_textbook

pytestmark = pytest.mark.faults

RECOVERY_SECONDS: Final = 10.0
CONCERNED: Final[dict[tuple[str, ...], set[str]]] = {
    ("persona",): {"persona", "chat"},
    ("auth",): {"auth"},
    ("ingest",): {"ingest"},
    ("chat",): {"chat"},
    ("payments", "3d", "analytics"): {"payments"},
    (GATEWAY,): {"auth", "persona", "payments", "ingest", "chat"},
    ("worker", "beat"): set(),
}
"""What may be told to come again while these are away, which do without each other."""


@pytest.fixture(scope="module")
def platform() -> Iterator[PlatformProcess]:
    require_redis()
    with (
        TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder,
        PlatformProcess(Path(folder) / "data", split=True) as platform,
    ):
        yield platform


@pytest.fixture
def owner(platform: PlatformProcess) -> Iterator[Caller]:
    owner = Caller.register(platform.url)
    with owner.http:
        yield owner


@pytest.fixture
def persona_id(platform: PlatformProcess, owner: Caller) -> str:
    """Each test has a school of its own, for a plan has so many messages a month."""
    persona_id = owner.create_persona()
    owner.add_document(persona_id, write_textbook(platform.data_dir.parent / "book.pdf", villages=VILLAGES[:1]))
    return persona_id


@pytest.fixture
def stored(platform: PlatformProcess) -> StoredState:
    return StoredState(platform.data_dir)


def command_of(name: str) -> str:
    return f"bwenge serve {name}" if name in SERVICES or name == GATEWAY else f"bwenge {name}"


def end(platform: PlatformProcess, names: tuple[str, ...], *, by: signal.Signals) -> float:
    """Send the signal; return the moment at which the next processes of these names serve."""
    for name in names:
        replace(platform, command_of(name), by=by)
    for name in {GATEWAY, *SERVICES} & {*names}:
        eventually(partial(is_alive, port_of(name, base_port=platform.port)), f"{name} is alive")
    return time.monotonic()


def replace(platform: PlatformProcess, command: str, *, by: signal.Signals) -> None:
    eventually(lambda: platform.pid_of(command) is not None, f"{command} runs")
    before = platform.pid_of(command)
    assert before is not None
    os.kill(before, by)
    eventually(lambda: platform.pid_of(command) not in {None, before}, f"{command} is started again")


def require_recovery(load: Load, back: float) -> None:
    try:
        eventually(partial(load.all_well_since, back), "all is well again", seconds=RECOVERY_SECONDS)
    except TimeoutError as error:
        raise AssertionError(load.heard_since(back)) from error


def is_alive(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def accounted_for(load: Load, stored: StoredState) -> None:
    """Every source that was accepted becomes ready, once, and every question is stored, with an answer or an end."""
    for source_id in load.sources:
        assert load.owner.wait(source_id)["status"] == "ready"
    [(indexed,)] = stored.query(
        "SELECT count(*) FROM (SELECT source_id, chunk_index FROM knowledge_chunks WHERE source_id = ANY(%s::uuid[])"
        " GROUP BY 1, 2 HAVING count(*) = 1) once",
        load.sources,
    )
    assert indexed == len(set(load.sources)) == len(load.sources)
    eventually(
        lambda: stored.query("SELECT count(*) FROM turns WHERE state = 'running'") == [(0,)], "no turn runs any more"
    )
    for session_id, question in load.questions:
        kept = stored.query(
            "SELECT content FROM messages WHERE conversation_id = %s AND content = %s", session_id, question
        )
        assert kept == [(question,)]


@pytest.mark.timeout(600)
def test_a_killed_process_takes_nothing_with_it(
    platform: PlatformProcess, owner: Caller, persona_id: str, stored: StoredState
) -> None:
    with Load(owner, persona_id).at_work() as load:
        eventually(partial(load.all_well_since, 0), "the school works")
        for names in CONCERNED:
            killed = time.monotonic()
            back = end(platform, names, by=signal.SIGKILL)
            require_recovery(load, back)
            require_told_well(load.heard_since(killed), names)
    accounted_for(load, stored)


def require_told_well(heard: list[Heard], names: tuple[str, ...]) -> None:
    """Others heard nothing of it, and whom it concerned was told to come again."""
    for attempt in heard:
        allowed = {"well", "retry"} if attempt.what in CONCERNED[names] else {"well"}
        assert attempt.told in allowed or may_be_cut(attempt, names), (names, attempt)
    # Behind its port, which stays open, the next gateway serves those who wait.
    for name in {*names} & CONCERNED[names]:
        assert "retry" in {attempt.told for attempt in heard if attempt.what == name}, names


def may_be_cut(attempt: Heard, names: tuple[str, ...]) -> bool:
    """Who held a connection to the gateway loses it with the gateway; an open socket of chat, with chat."""
    return attempt.told.startswith("cut") and (names == (GATEWAY,) or (attempt.what,) == names == ("chat",))


@pytest.mark.timeout(600)
def test_a_rolling_restart_fails_nobody(
    platform: PlatformProcess, owner: Caller, persona_id: str, stored: StoredState
) -> None:
    with Load(owner, persona_id).at_work() as load:
        eventually(partial(load.all_well_since, 0), "the school works")
        for names in CONCERNED:
            back = end(platform, names, by=signal.SIGTERM)
            require_recovery(load, back)
    assert {attempt.told for attempt in load.heard} <= {"well", "retry"}, [
        attempt for attempt in load.heard if attempt.told not in {"well", "retry"}
    ]
    accounted_for(load, stored)


def test_the_broker_killed_and_emptied_loses_no_work_and_doubles_none(
    platform: PlatformProcess, owner: Caller, persona_id: str, stored: StoredState
) -> None:
    with Load(owner, persona_id).at_work() as load:
        for _ in range(2):
            eventually(partial(load.all_well_since, 0), "the school works")
            replace(platform, "redis-server", by=signal.SIGKILL)
            back = time.monotonic()
            require_recovery(load, back)
    assert {attempt.told for attempt in load.heard} == {"well"}
    accounted_for(load, stored)
    due = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND run_after <= now()"
    eventually(lambda: stored.query(due) == [(0,)], "no job is left that may be done")
