"""`bwenge worker` and `bwenge beat` say plainly what they lack before they start anything."""

from pathlib import Path

import pytest

from bwenge.cli.working import parse_queues
from bwenge.kit.jobs.queues import QUEUES
from tests.cli.conftest import Command
from tests.support.platform import free_port

DATABASE = "postgresql://u:p@127.0.0.1:1/bwenge"
REDIS = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("command", ["worker", "beat"])
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "needs DATABASE_URL and REDIS_URL"),
        ({"DATABASE_URL": DATABASE}, "needs REDIS_URL"),
        ({"REDIS_URL": REDIS}, "needs DATABASE_URL"),
    ],
)
async def test_what_is_shared_with_the_services_has_to_be_named(
    bwenge: Command, tmp_path: Path, command: str, settings: dict[str, str], told: str
) -> None:
    # The embedded database of a platform is not for workers.
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    ended = await bwenge(command, "--data-dir", str(tmp_path / "data"), **settings)
    assert ended.code == 1
    assert told in ended.complaint
    assert "`bwenge up` does the jobs of its own embedded database itself" in ended.complaint


@pytest.mark.parametrize("queues", ["extraktion", "extraction,default", ","])
async def test_a_queue_that_there_is_not_is_wrong_use(bwenge: Command, queues: str) -> None:
    ended = await bwenge("worker", "--queues", queues, DATABASE_URL=DATABASE, REDIS_URL=REDIS)
    assert ended.code == 2
    assert "there is no queue" in ended.complaint


async def test_no_concurrency_at_all_is_wrong_use(bwenge: Command) -> None:
    assert (await bwenge("worker", "--concurrency", "0")).code == 2


async def test_a_database_that_does_not_answer_is_told(bwenge: Command) -> None:
    ended = await bwenge("worker", DATABASE_URL=f"postgresql://u:p@127.0.0.1:{free_port()}/bwenge", REDIS_URL=REDIS)
    assert (ended.code, "does not answer" in ended.complaint) == (1, True)


def test_queues_are_named_by_commas_and_are_all_where_none_is() -> None:
    assert parse_queues(None) == tuple(QUEUES)
    assert parse_queues("embedding, extraction,embedding") == ("embedding", "extraction")
