"""`bwenge grant`: beside a running platform's database, and on a stopped one."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg
import pytest

from bwenge.apps.resources import Server, open_server
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.kit.data_directory import DataDirectoryLock
from tests.cli.conftest import Command
from tests.support.model_server import refused_port

ORG_ID = UUID("018f0000-0000-7000-8000-00000000000a")
NEW_SCHOOL = "INSERT INTO organizations (id, name) VALUES ('018f0000-0000-7000-8000-00000000000a', 'School')"
GIVEN = ("--until", "2035-12-31", "--reason", "A pilot of the district")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not below pytest's own folder: each session of pytest resets the access list of that.
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


@pytest.fixture
def running(data_dir: Path) -> Any:
    """The database of a platform, as long as the block runs."""
    settings = Settings(_env_file=None, data_dir=data_dir)
    data_dir.mkdir(mode=0o700, exist_ok=True)
    return lambda: open_server(settings, Secrets.load(settings), announce=lambda _step: None)


def rows(server: Server, statement: str) -> list[tuple[Any, ...]]:
    url = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        result = connection.execute(statement.encode())
        return result.fetchall() if result.description else []


async def test_a_plan_is_given_while_the_platform_runs_and_while_it_does_not(
    bwenge: Command, data_dir: Path, running: Any
) -> None:
    with running() as server:
        rows(server, NEW_SCHOOL)
        beside = await bwenge("grant", str(ORG_ID), "basic", *GIVEN, "--data-dir", str(data_dir))
        assert (beside.code, beside.complaint) == (0, "")
        assert beside.output.endswith("The plan basic is in force until 2035-12-31 22:00 UTC.\n")
        assert rows(server, "SELECT plan_name, status FROM subscriptions") == [("basic", "active")]

    stopped = await bwenge("grant", str(ORG_ID), "pro", *GIVEN, "--data-dir", str(data_dir))

    assert (stopped.code, stopped.complaint) == (0, "")
    with running() as server:
        assert rows(server, "SELECT plan_name, status FROM subscriptions ORDER BY id") == [
            ("basic", "cancelled"),
            ("pro", "active"),
        ]
        log = rows(server, "SELECT org_id, actor_id, action, detail->>'reason', detail->>'by' FROM audit_log")
    assert log == [(ORG_ID, None, "subscription.granted", "A pilot of the district", "command line")] * 2


async def test_what_is_refused_is_told_in_one_sentence(bwenge: Command, data_dir: Path, running: Any) -> None:
    with running() as server:
        rows(server, NEW_SCHOOL)
        place = ("--data-dir", str(data_dir))
        unknown = await bwenge("grant", str(UUID(int=7)), "pro", *GIVEN, *place)
        past = await bwenge("grant", str(ORG_ID), "pro", "--until", "2020-01-01", "--reason", "A pilot", *place)
        assert rows(server, "SELECT id FROM subscriptions") == []

    assert (unknown.code, unknown.complaint) == (1, f"bwenge: There is no organisation {UUID(int=7)}.\n")
    assert (past.code, past.complaint) == (1, "bwenge: until is in the future, and within ten years\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("not-a-uuid", "pro", *GIVEN),
        (str(ORG_ID), "gold", *GIVEN),
        (str(ORG_ID), "pro", "--reason", "A pilot"),
        (str(ORG_ID), "pro", "--until", "2035-12-31"),
        (str(ORG_ID), "pro", "--until", "tomorrow", "--reason", "A pilot"),
        (str(ORG_ID), "pro", "--until", "2035-12-31", "--reason", " "),
    ],
)
async def test_wrong_use_ends_with_2(bwenge: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert (await bwenge("grant", *arguments)).code == 2
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_in_use_whose_database_does_not_answer_is_told(bwenge: Command, data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    with DataDirectoryLock(data_dir):
        ended = await bwenge("grant", str(ORG_ID), "pro", *GIVEN, "--data-dir", str(data_dir))
    assert ended.code == 1
    assert "is in use by process" in ended.complaint
    assert "Traceback" not in ended.complaint


async def test_a_mistaken_directory_is_told_and_nothing_is_made_of_it(bwenge: Command, tmp_path: Path) -> None:
    ended = await bwenge("grant", str(ORG_ID), "pro", *GIVEN, "--data-dir", "mistaken")
    assert ended.code == 1
    assert ended.complaint.startswith("bwenge: There is no database in mistaken that this command may use.")
    assert list(tmp_path.iterdir()) == []


async def test_a_server_elsewhere_that_does_not_answer_is_told(bwenge: Command, data_dir: Path) -> None:
    with refused_port() as port, DataDirectoryLock(data_dir):
        url = f"postgresql://bwenge:ibanga@127.0.0.1:{port}/bwenge"
        ended = await bwenge("grant", str(ORG_ID), "pro", *GIVEN, "--data-dir", str(data_dir), DATABASE_URL=url)
    assert (ended.code, ended.complaint) == (
        1,
        "bwenge: PostgreSQL at DATABASE_URL does not answer or refuses the login.\n",
    )


async def test_a_platform_with_a_server_elsewhere_is_reached_there(bwenge: Command, data_dir: Path) -> None:
    """The lock on the data directory says that a platform runs; DATABASE_URL says where its database is."""
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as elsewhere:
        settings = Settings(_env_file=None, data_dir=Path(elsewhere) / "data", secret_key="s" * 40)
        with open_server(settings, Secrets.load(settings), announce=lambda _step: None) as server:
            rows(server, NEW_SCHOOL)
            url = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
            with DataDirectoryLock(data_dir):
                ended = await bwenge(
                    *("grant", str(ORG_ID), "pro", *GIVEN, "--data-dir", str(data_dir)),
                    DATABASE_URL=url,
                    BWENGE_SECRET_KEY="s" * 40,
                )
            assert (ended.code, ended.complaint) == (0, "")
            assert rows(server, "SELECT plan_name FROM subscriptions") == [("pro",)]
