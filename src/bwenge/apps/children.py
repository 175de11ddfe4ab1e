"""Programs that are kept running: started again when they end, stopped together, each with a log of its own."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from bwenge.kit.embedded_postgres.account import AS_USER
from bwenge.kit.telemetry import rotating_file

_log = structlog.get_logger(__name__)

_LAST_WORDS_SECONDS: Final = 0.5
_LINE_BYTES: Final = 1024 * 1024
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_STEADY_SECONDS: Final = 30.0
"""Who ran for so long did not fail at its start, and is started again at once."""


@dataclass(frozen=True)
class Program:
    """What to run; the kernel ends it (SIGTERM) should the process that started it be killed.

    Attributes:
        command: The first is an absolute path.
        environment: All of it; nothing is inherited.
        descriptors: Open files that it has too, under the same numbers.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: tuple[int, ...] = ()


class Child:
    """One program, from its first start to `stop`."""

    def __init__(self, program: Program, *, logs: Path) -> None:
        self.program = program
        self.starts = 0
        self._log_path = logs / f"{program.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._stop_asked = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper-{self.program.name}")

    async def stop(self, *, seconds: float) -> None:
        """Ask it to end (SIGTERM), and kill it where it takes longer than that."""
        self._stop_asked.set()
        if self._keeper is None:
            return
        self._signal(signal.SIGTERM)
        ended, _ = await asyncio.wait({self._keeper}, timeout=seconds)
        if not ended:
            _log.warning("child_killed", name=self.program.name, seconds=seconds)
            self.kill()
        await asyncio.gather(self._keeper, return_exceptions=True)

    def kill(self) -> None:
        """End it at once, and what it has started itself."""
        self._stop_asked.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                # It leads a session of its own.
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stop_asked.is_set():
            began = time.monotonic()
            status: int | str
            try:
                status = await self._run()
            except OSError as error:  # the machine has no process, descriptor or memory to spare just now
                status = error.strerror or type(error).__name__
            if self._stop_asked.is_set():
                return
            lasted = time.monotonic() - began
            pause = _FIRST_PAUSE_SECONDS if lasted > _STEADY_SECONDS else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            _log.error("child_ended", name=self.program.name, status=status, seconds=round(lasted, 1), again_in=pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop_asked.wait()

    async def _run(self) -> int:
        # A pipe of our own: what the program starts itself may outlive it and hold the other end.
        reading, writing = os.pipe()
        output, transport = await _reader(reading)
        try:
            process = self._process = await self._start(writing)
            copying = asyncio.create_task(self._copy(output))
            try:
                status = await process.wait()
                self._process = None
                await asyncio.wait({copying}, timeout=_LAST_WORDS_SECONDS)
            finally:
                copying.cancel()
                await asyncio.gather(copying, return_exceptions=True)
        finally:
            transport.close()
        return status

    async def _start(self, output: int) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                *_tied(self.program.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(self.program.environment),
                pass_fds=self.program.descriptors,
                # Control-C at a terminal must reach the supervisor alone: it ends the others in their order.
                start_new_session=True,
            )
        finally:
            os.close(output)
        self.starts += 1
        if self._stop_asked.is_set():
            process.terminate()
        return process

    async def _copy(self, output: asyncio.StreamReader) -> None:
        with closing(rotating_file(self._log_path)) as log:
            while True:
                try:
                    line = await output.readline()
                except ValueError:  # longer than any line of ours
                    continue
                if not line:
                    return
                log.handle(logging.makeLogRecord({"msg": line.decode("utf-8", "replace").rstrip("\n")}))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


async def stop_all(children: Iterable[Child], *, seconds: float) -> None:
    """Stop them at the same time."""
    await asyncio.gather(*(child.stop(seconds=seconds) for child in children))


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader, transport


def _tied(command: Sequence[str]) -> list[str]:
    """The command, ended by the kernel when this process ends, however it ends."""
    identity = (os.geteuid(), os.getegid(), os.getpid(), signal.SIGTERM.value)
    return [*AS_USER, "run", *map(str, identity), *command]
