"""What runs beside Celery in each process of it: the relay of jobs, and a worker's word that it lives."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from celery import platforms

from bwenge.apps.broker import CeleryBroker
from bwenge.apps.composition import Platform, compose
from bwenge.apps.resources import SchemaTooOld, await_schema, lazy_embedder, open_resources, shared_server
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.kit.db import SINGLE, Database, DatabaseUnavailable, PoolSizes
from bwenge.kit.jobs.executor import JobExecutor
from bwenge.kit.jobs.presence import WorkerPresence, count_running, keep_present
from bwenge.kit.jobs.relay import AGAIN_AFTER, JobRelay
from bwenge.kit.jobs.schedule import Recurring, ask_for

_log = structlog.get_logger(__name__)

_ANSWER_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 8.0
_LOOK_SECONDS: Final = 0.05
_DIED: Final = 1


class NotSplit(RuntimeError):
    """Workers share a database and a broker with services, and those have to be named."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"A worker needs {' and '.join(names)}: the database and the Redis that it shares with the services. "
            "`bwenge up` does the jobs of its own embedded database itself, and lets no worker in."
        )


class CompanionDied(RuntimeError):
    def __init__(self) -> None:
        super().__init__("What passes jobs on to Redis has died, and this process ends with it; the log says of what.")


def redis_url_of(settings: Settings) -> str:
    """Raises `NotSplit` where the settings do not name what a worker shares with the services."""
    missing = [
        name
        for name, url in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url))
        if url is None
    ]
    if missing or settings.redis_url is None:
        raise NotSplit(missing)
    return settings.redis_url.get_secret_value()


@asynccontextmanager
async def open_features(
    settings: Settings, secrets: Secrets, *, pools: PoolSizes, work_dir: Path | None = None
) -> AsyncIterator[Platform]:
    """All features, of which none is started, on the shared database; the embedder is loaded when it is first used."""
    async with open_resources(
        settings, secrets, server=shared_server(settings), embedder=lazy_embedder(settings), pools=pools
    ) as resources:
        yield compose(settings, secrets, resources, work_dir=work_dir)


class ForkedCompanion:
    """Another process that this one does not outlive: should it die, whatever of, this process gets SIGTERM."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._parent = os.getpid()
        signal.signal(signal.SIGCHLD, self._on_child_end)
        self._on_child_end()  # it may have died before anybody listened

    def stop(self, *, within_seconds: float = _STOP_SECONDS) -> bool:
        """End what runs, and say goodbye; what has not ended in time, as it waits for a silent Redis, is killed.

        Returns False where it had died by itself, or had been killed.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.kill(self._pid, signal.SIGTERM)
        last = time.monotonic() + within_seconds
        while (ended := os.waitpid(self._pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > last:
                _log.warning("companion_killed")
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return True
            time.sleep(_LOOK_SECONDS)
        return os.waitstatus_to_exitcode(ended[1]) in {0, -signal.SIGTERM}

    def _on_child_end(self, *_: object) -> None:
        if os.getpid() != self._parent:
            return  # a fork of this process has inherited the handler
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            _log.error("companion_died", pid=self._pid)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.kill(self._parent, signal.SIGTERM)


class Companion:
    """An event loop with connections of its own, one of each role: on a thread, or in a process by `fork`."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        broker: CeleryBroker,
        *,
        again_after: timedelta = AGAIN_AFTER,
        presence: WorkerPresence | None = None,
    ) -> None:
        self._settings, self._secrets, self._broker = settings, secrets, broker
        self._again_after = again_after
        self._presence = presence
        self._thread = threading.Thread(target=self._run, name="companion", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._database: Database | None = None
        self._work: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._stopping = False

    def start(self) -> None:
        """Run on a thread. Should it die, this process gets SIGTERM, and `stop` raises what it died of."""
        self._thread.start()

    def fork(self) -> "ForkedCompanion":
        """Run in a process of its own, for one that will fork others: a fork beside a thread may inherit its locks.

        To be called before the caller has any thread.
        """
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return ForkedCompanion(pid)
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            platforms.set_pdeathsig("SIGKILL")  # type: ignore[attr-defined]  # the types leave it out
            if os.getppid() == parent:  # it may have died before its death would have been told
                asyncio.run(self._until_told())
        except BaseException:  # noqa: BLE001  # whatever it is, this process must not return into the caller's
            _log.exception("companion_failed")
            os._exit(_DIED)
        finally:
            os._exit(0)

    async def _until_told(self) -> None:
        work = asyncio.create_task(self._accompany())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        await asyncio.wait([work])
        if not work.cancelled():
            work.result()

    def stop(self) -> None:
        """End what runs, and say goodbye.

        Raises:
            SchemaTooOld, DatabaseUnavailable: It had died of that.
            CompanionDied: It had died of something else.
        """
        self._stopping = True
        if self._thread.is_alive():
            self._ready.wait(_ANSWER_SECONDS)
            if self._loop is not None and self._work is not None:
                with suppress(RuntimeError):  # it has just ended by itself
                    self._loop.call_soon_threadsafe(self._work.cancel)
            self._thread.join(_ANSWER_SECONDS)
            self._broker.close()
        if isinstance(self._error, SchemaTooOld | DatabaseUnavailable):
            raise self._error
        if self._error is not None:
            raise CompanionDied from self._error

    def ask_for(self, recurring: Recurring) -> bool:
        """As `kit.jobs.schedule.ask_for`, from another thread; raises what that raises."""
        self._ready.wait(_ANSWER_SECONDS)
        if self._loop is None or self._database is None or not self._thread.is_alive():
            raise RuntimeError("the companion does not run")
        asking = asyncio.run_coroutine_threadsafe(ask_for(self._database, recurring), self._loop)
        return asking.result(_ANSWER_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._accompany())
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the process must not live on without
            _log.exception("companion_died")
            self._error = error
            if not self._stopping:
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            self._ready.set()

    async def _accompany(self) -> None:
        async with open_features(self._settings, self._secrets, pools=SINGLE) as platform:
            database = platform.resources.database
            await await_schema(database)
            relay = JobRelay(
                database, self._broker, JobExecutor(database, platform.jobs.kinds), again_after=self._again_after
            )
            self._loop, self._database, self._work = asyncio.get_running_loop(), database, asyncio.current_task()
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(relay.run())
                if self._presence is not None:
                    running = partial(count_running, database, self._presence)
                    group.create_task(keep_present(database, self._presence, running=running))
