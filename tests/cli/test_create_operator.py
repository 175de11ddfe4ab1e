"""`bwenge create-operator` and `bwenge deactivate-operator`, with the platform stopped and beside a running one."""

import getpass
import io
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy.engine import URL

from bwenge.apps.resources import Server, open_server
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.kit.data_directory import DataDirectoryLock
from tests.cli.conftest import Command

PASSWORD = "ikinyugunyugu-ry'umuhondo"


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """As `tests/conftest.py` says of folders for servers."""
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed at the prompts, in its order."""
    typed: list[str] = []
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: typed.pop(0))
    return typed


def running(data_dir: Path) -> Generator[Server]:
    settings = Settings(_env_file=None, data_dir=data_dir)
    with open_server(settings, Secrets.load(settings), announce=lambda _step: None) as server:
        yield server


def operators_of(server: Server) -> list[tuple[str, str]]:
    url = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT email, name FROM users WHERE role = 'operator' ORDER BY id").fetchall()


def active_operators_of(server: Server) -> list[str]:
    url = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        query = "SELECT email FROM users WHERE role = 'operator' AND is_active"
        return [email for (email,) in connection.execute(query)]


async def test_an_operator_is_made_while_the_platform_is_stopped_and_beside_a_running_one(
    bwenge: Command, data_dir: Path, typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in running(data_dir):
        pass
    typed += [PASSWORD, PASSWORD]
    stopped = await bwenge("create-operator", "Ineza@bwenge.example", "--data-dir", str(data_dir))
    assert (stopped.code, typed) == (0, [])
    assert "Ineza@bwenge.example is an operator now." in stopped.output

    server = next(servers := running(data_dir))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\nmore\n"))
    arguments = ("--data-dir", str(data_dir), "--password-stdin")
    beside = await bwenge("create-operator", "keza@bwenge.example", "--name", "Keza", *arguments)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    taken = await bwenge("create-operator", "INEZA@bwenge.example", *arguments)

    assert beside.code == 0
    assert (taken.code, taken.complaint) == (1, "bwenge: An account with this email address exists already.\n")
    assert operators_of(server) == [("ineza@bwenge.example", "Ineza"), ("keza@bwenge.example", "Keza")]
    for ended in (stopped, beside, taken):
        assert PASSWORD not in ended.output + ended.complaint
    away = await bwenge("deactivate-operator", "Keza@bwenge.example", "--data-dir", str(data_dir))
    again = await bwenge("deactivate-operator", "keza@bwenge.example", "--data-dir", str(data_dir))
    assert (away.code, away.output) == (0, "Keza@bwenge.example is no operator any more.\n")
    assert (again.code, again.complaint) == (1, "bwenge: No active operator has this email address.\n")
    assert active_operators_of(server) == ["ineza@bwenge.example"]
    servers.close()


async def test_a_directory_in_use_without_a_server_is_told(bwenge: Command, tmp_path: Path, typed: list[str]) -> None:
    typed += [PASSWORD, PASSWORD]
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    with DataDirectoryLock(tmp_path / "data"):
        ended = await bwenge("create-operator", "ineza@bwenge.example")

    assert ended.code == 1
    assert ended.complaint.startswith("bwenge: The data directory data is in use by process ")


@pytest.mark.parametrize("command", ["create-operator", "deactivate-operator"])
async def test_a_mistaken_directory_is_told_before_the_password_is_asked_for_and_nothing_is_made_of_it(
    bwenge: Command, tmp_path: Path, command: str
) -> None:
    ended = await bwenge(command, "ineza@bwenge.example", "--data-dir", "mistaken", BWENGE_SECRET_KEY="s" * 40)

    assert ended.code == 1
    assert ended.complaint.startswith("bwenge: There is no database in mistaken that this command may use.")
    assert "--data-dir" in ended.complaint
    assert list(tmp_path.iterdir()) == []


async def test_an_external_database_that_was_not_prepared_is_told_with_what_to_do(
    bwenge: Command, admin_url: URL, typed: list[str]
) -> None:
    typed += [PASSWORD, PASSWORD]
    address = admin_url.render_as_string(hide_password=False)
    ended = await bwenge("create-operator", "ineza@bwenge.example", DATABASE_URL=address)

    assert ended.code == 1
    assert "`bwenge migrate`" in ended.complaint
    assert PASSWORD not in ended.output + ended.complaint


@pytest.mark.parametrize(
    ("email", "password", "told"),
    [
        ("ineza", PASSWORD, "this is not an email address"),
        ("ineza@bwenge.example", "short", "8 to 128 characters"),
        ("ineza@bwenge.example", "password1", "easily guessed"),
    ],
)
async def test_a_wrong_account_is_told(
    bwenge: Command, admin_url: URL, typed: list[str], email: str, password: str, told: str
) -> None:
    typed += [password, password]
    ended = await bwenge("create-operator", email, DATABASE_URL=admin_url.render_as_string(hide_password=False))

    assert ended.code == 1
    assert told in ended.complaint


async def test_without_an_address_it_is_wrong_use(bwenge: Command) -> None:
    assert (await bwenge("create-operator")).code == 2
