"""What runs beside Celery takes the whole process with it when it dies, and never keeps it from ending."""

import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from bwenge.apps import companion
from bwenge.apps.beat import run_beat
from bwenge.apps.companion import CompanionDied, ForkedCompanion
from bwenge.apps.resources import SchemaTooOld


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers are this process's; and one that lives on is ended."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
    end = threading.Timer(20, os.kill, (os.getpid(), signal.SIGTERM))
    end.start()
    yield
    end.cancel()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("death", "told"), [(SchemaTooOld("it has an older schema"), SchemaTooOld), (OSError(), CompanionDied)]
)
def test_a_beat_whose_companion_dies_ends_and_says_of_what(
    monkeypatch: pytest.MonkeyPatch, death: Exception, told: type[Exception]
) -> None:
    @asynccontextmanager
    async def die(*_: Any, **__: Any) -> AsyncIterator[None]:
        raise death
        yield

    monkeypatch.setattr(companion, "open_features", die)
    settings: Any = SimpleNamespace(
        database_url=SecretStr("postgresql://127.0.0.1:1/none"), redis_url=SecretStr("redis://127.0.0.1:1/0")
    )
    secrets: Any = None
    with pytest.raises(told):
        run_beat(settings, secrets)


@contextmanager
def process(script: str) -> Iterator[int]:
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as started:  # noqa: S603  # the tests' own
        assert started.stdout is not None
        started.stdout.readline()
        yield started.pid


def test_a_forked_companion_that_does_not_end_in_time_is_killed() -> None:
    with process("trap '' TERM; echo ready; exec sleep 60") as stubborn:
        assert ForkedCompanion(stubborn).stop(within_seconds=0.2)
        with pytest.raises(ProcessLookupError):
            os.kill(stubborn, 0)


def test_a_forked_companion_that_had_died_is_told_from_one_that_was_ended() -> None:
    with process("echo ready; exec sleep 60") as lives:
        assert ForkedCompanion(lives).stop()
    with process("trap 'exit 1' TERM; echo ready; while :; do sleep 0.1; done") as dies:
        assert not ForkedCompanion(dies).stop()


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("moment", ["before", "afterwards"])
def test_a_process_whose_forked_companion_is_killed_is_told_to_end(moment: str) -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    with process("echo ready; exec sleep 60") as killed:
        if moment == "before":
            kill_and_see(killed)
        companion = ForkedCompanion(killed)
        if moment == "afterwards":
            assert not told.is_set()
            kill_and_see(killed)
        assert told.wait(5)
        assert not companion.stop()


def kill_and_see(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
