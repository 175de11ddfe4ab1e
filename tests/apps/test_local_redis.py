"""The Redis server that the platform starts itself: its password is nobody else's to read."""

import stat
import subprocess
from pathlib import Path

import pytest
import redis

from bwenge.apps.local_redis import prepare_redis
from tests.support.redis_server import require_redis
from tests.support.waiting import eventually


def test_it_runs_in_any_folder_behind_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    require_redis()
    folder = tmp_path / 'my "data" \\ here'
    local = prepare_redis(folder, password="ibanga-rya-cyane")
    assert stat.S_IMODE((folder / "redis.conf").stat().st_mode) == 0o600
    assert "ibanga" not in " ".join(local.command)
    process = subprocess.Popen(local.command, stdout=subprocess.DEVNULL)  # noqa: S603  # a program of the machine's
    try:
        with (
            redis.Redis.from_url(local.url) as client,
            redis.Redis.from_url(local.url.replace("ibanga", "other")) as guest,
        ):

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.ConnectionError:
                    return False

            eventually(answers, "redis-server answers")
            with pytest.raises(redis.AuthenticationError):
                guest.ping()
    finally:
        process.kill()
        process.wait()
