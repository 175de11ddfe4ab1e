"""A worker with short leases that comes to grief where a test says: `python -m tests.support.hasty_worker worker ...`.

It embeds by the fake, and logs in as the tests' roles. The environment tells what happens:

DIE_AT: points of `dying_platform.Point`, by commas, at each of which the child is killed as by `kill -9`, once.
DIE_WITH_WORKER: set, the worker's main process is killed along with it.
MARKS: a folder, the same for all workers of a test, that remembers where one died.
HOLD_AT and HOLD_UNTIL: as of `dying_platform`.
HOLD_LOOP: set, the hold stops the child's event loop, so that nothing of it goes on.
HARD_LIMIT: seconds after which Celery kills a child that is still at a job.
STOP_SECONDS: how long a stopping worker lets its jobs go on.
"""

import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest.mock import patch

from bwenge.apps import beat, companion, worker
from bwenge.apps.broker import KILL_AFTER, CeleryBroker
from bwenge.apps.secrets import Secrets
from bwenge.apps.worker import Timing, run_worker
from bwenge.cli import main, working
from bwenge.kit.jobs.queues import QUEUES, QueueRule
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.databases import PASSWORDS
from tests.support.dying_platform import Blow, Point, Wait, place, strike_before

LEASE = timedelta(seconds=1.5)


class DeathOnce(Blow):
    """Kills this process, and the worker that forked it where told so, the first time that anybody comes here."""

    def __init__(self, mark: Path, *, takes_worker: bool) -> None:
        self._mark = mark
        self._takes_worker = takes_worker

    def strike(self) -> None:
        try:
            self._mark.touch(exist_ok=False)
        except FileExistsError:
            return
        if self._takes_worker:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    async def strike_async(self) -> None:
        # Not on another thread, beside which the event loop would live on for a moment.
        self.strike()


class Stall(Wait):
    """Holds the event loop itself."""

    async def strike_async(self) -> None:
        self.strike()


def _kill_after(limit: timedelta) -> None:
    rules = {name: QueueRule(rule.slots, limit - KILL_AFTER) for name, rule in QUEUES.items()}
    patch.object(worker, "CeleryBroker", partial(CeleryBroker, rules=rules)).start()


def _place(point: Point, blow: Blow) -> None:
    if point is Point.EMBEDDING:
        strike_before(FakeEmbedder, "embed_documents", blow)
    else:
        place(point, blow)


def arrange() -> None:
    told = os.environ
    patch.object(Secrets, "role_passwords", PASSWORDS).start()
    patch.object(companion, "lazy_embedder", lambda _settings: FakeEmbedder()).start()
    timing = Timing(lease=LEASE, again_after=LEASE, stop_seconds=float(told.get("STOP_SECONDS", "10")))
    patch.object(working, "run_worker", partial(run_worker, timing=timing)).start()
    patch.object(working, "run_beat", partial(beat.run_beat, again_after=LEASE)).start()
    for name in filter(None, told.get("DIE_AT", "").split(",")):
        mark = Path(told["MARKS"]) / name
        _place(Point(name), DeathOnce(mark, takes_worker="DIE_WITH_WORKER" in told))
    if "HOLD_AT" in told:
        hold = Stall if "HOLD_LOOP" in told else Wait
        _place(Point(told["HOLD_AT"]), hold(Path(told["HOLD_UNTIL"])))
    if "HARD_LIMIT" in told:
        _kill_after(timedelta(seconds=float(told["HARD_LIMIT"])))


if __name__ == "__main__":
    arrange()
    main()
