"""What clients of the split platform meet while it stops for good."""

import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from tests.support.platform import PlatformProcess
from tests.support.redis_server import require_redis


def test_who_calls_while_it_stops_is_answered_or_refused_and_never_left_waiting() -> None:
    require_redis()
    with (
        TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder,
        PlatformProcess(Path(folder) / "data", split=True) as platform,
        httpx2.Client(base_url=platform.url, timeout=60, trust_env=False) as client,
    ):
        os.kill(platform.pid, signal.SIGINT)
        heard: list[str] = []
        waited = 0.0
        while platform.is_running:
            began = time.monotonic()
            try:
                heard.append(str(client.get("/health", headers={"Connection": "close"}).status_code))
            except httpx2.TransportError as error:
                heard.append(type(error).__name__)
            waited = max(waited, time.monotonic() - began)
        # Who had just connected may be cut off.
        assert set(heard) <= {"200", "503", "ConnectError", "ReadError"}
        assert heard[-1] == "ConnectError"
        assert waited < 5
        assert platform.stop() == 0
