"""The embedded PostgreSQL dies alone: the platform does not live on without it, and the next start has everything."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.platform import Caller, PlatformProcess


def postmaster(platform: PlatformProcess) -> int:
    (server,) = (child for child in psutil.Process(platform.pid).children() if child.name() == "postgres")
    return int(server.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_platform_ends_with_a_message_and_is_started_again_with_all_it_had(
    folder: Path, number: signal.Signals
) -> None:
    with PlatformProcess(folder / number.name) as platform:
        owner = Caller.register(platform.url)
        with owner.http:
            persona_id = owner.create_persona()
        os.kill(postmaster(platform), number)
        assert platform.wait_until_dead() == 1
        assert "bwenge: PostgreSQL ended unexpectedly" in platform.output
        assert "Traceback" not in platform.output
        platform.start()
        with Caller(platform.url, token=owner.token, org_id=owner.org_id).http as http:
            assert http.get(f"/personas/{persona_id}").status_code == 200
