"""Waiting for a fact that no event announces: another process's, or the file system's."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE: Final = 60.0
INTERVAL: Final = 0.02


def eventually(holds: Callable[[], bool], what: str = "the fact waited for", *, seconds: float = PATIENCE) -> bool:
    """True as soon as the condition holds.

    Raises:
        TimeoutError: with `what` was waited for.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s still not: {what}")
        time.sleep(INTERVAL)
    return True


async def comes_true(
    holds: Callable[[], Awaitable[bool]], what: str = "the fact waited for", *, seconds: float = PATIENCE
) -> bool:
    """As `eventually`, while the event loop goes on.

    Raises:
        TimeoutError: with `what` was waited for.
    """
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s still not: {what}")
        await asyncio.sleep(INTERVAL)
    return True
