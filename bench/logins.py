"""What logins cost everybody else: `python -m bench.logins [--logins 8]`.

The whole platform runs as a process of its own. One member reads their profile again and again, first while nothing
else happens and then while others log in all the time; Argon2id takes both cores and 64 MiB for each.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

import httpx2
import numpy as np

from tests.support.platform import Caller, PlatformProcess

PASSWORD: Final = "umusozi-muremure"
UNCOUNTED: Final = 10
"""First reads, of a process that has not warmed up."""
PAUSE_SECONDS: Final = 0.01
"""Between two reads, so that they meet the logins at every moment of theirs."""


def run(*, reads: int = 300, logins: int = 8) -> dict[str, float]:
    """Milliseconds of GET /users/me, idle and beside so many logins at once.

    The wanted bound: `p95_times_idle` under 3.
    """
    with (
        TemporaryDirectory(prefix="bwenge-bench-", ignore_cleanup_errors=True) as folder,
        PlatformProcess(Path(folder) / "data") as platform,
    ):
        reader = Caller.register(platform.url)
        accounts = [_register(platform.url) for _ in range(logins)]
        return asyncio.run(_measure(platform.url, reader.token, accounts, reads=reads))


async def _measure(url: str, token: str, accounts: Sequence[str], *, reads: int) -> dict[str, float]:
    async with httpx2.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        await _read(client, token, UNCOUNTED)
        idle = await _read(client, token, reads)
        done: list[float] = []
        working = [asyncio.create_task(_log_in_for_ever(client, account, done)) for account in accounts]
        started = time.monotonic()
        busy = await _read(client, token, reads)
        seconds = time.monotonic() - started
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    idle_p95, busy_p95 = (float(np.percentile(times, 95)) for times in (idle, busy))
    return {
        "reads": reads,
        "idle_p50_ms": float(np.percentile(idle, 50)),
        "idle_p95_ms": idle_p95,
        "busy_p50_ms": float(np.percentile(busy, 50)),
        "busy_p95_ms": busy_p95,
        "p95_times_idle": busy_p95 / idle_p95,
        "logins_a_second": len(done) / seconds,
        "login_p50_ms": float(np.percentile(done, 50)) if done else 0.0,
    }


async def _read(client: httpx2.AsyncClient, token: str, times: int) -> list[float]:
    """Milliseconds of each."""
    taken = []
    for _ in range(times):
        started = time.monotonic()
        answer = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        taken.append((time.monotonic() - started) * 1000)
        answer.raise_for_status()
        await asyncio.sleep(PAUSE_SECONDS)
    return taken


async def _log_in_for_ever(client: httpx2.AsyncClient, email: str, done: list[float]) -> None:
    while True:
        started = time.monotonic()
        answer = await client.post("/auth/login", json={"email": email, "password": PASSWORD})
        answer.raise_for_status()
        done.append((time.monotonic() - started) * 1000)


def _register(url: str) -> str:
    """The account's email address."""
    email = f"{uuid4().hex[:12]}@school.example"
    body = {"name": "Claudine", "email": email, "password": PASSWORD, "org_name": "School"}
    httpx2.post(f"{url}/auth/register", json=body, timeout=60, trust_env=False).raise_for_status()
    return email


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=300)
    parser.add_argument("--logins", type=int, default=8)
    print(json.dumps(run(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
