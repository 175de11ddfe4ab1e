"""Exit codes and words: 0 well, 1 failed with a message, 2 wrong use; a wrong setting is named, its value is not."""

import socket
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from bwenge import __version__
from tests.cli.conftest import Command
from tests.support.model_server import refused_port
from tests.support.platform import free_port

SECRET = "ibanga-rya-cyane"


async def test_the_version_is_told(bwenge: Command) -> None:
    ended = await bwenge("--version")
    assert (ended.code, ended.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [(), ("fly",), ("ask",), ("up", "--port", "0"), ("up", "--port", "many"), ("ask", "--file", "missing.pdf", "?")],
)
async def test_wrong_use_ends_with_2(bwenge: Command, arguments: tuple[str, ...]) -> None:
    assert (await bwenge(*arguments)).code == 2


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("BWENGE_PORT", "eight", "BWENGE_PORT: "),
        ("BWENGE_PORT", "65536", "BWENGE_PORT: "),
        ("BWENGE_ENV", "prod", "BWENGE_ENV: "),
        ("BWENGE_SECRET_KEY", SECRET, "BWENGE_SECRET_KEY needs at least 32 characters"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/db", "DATABASE_URL: needs the form postgresql://"),
        ("DATABASE_URL", SECRET, "DATABASE_URL: needs the form postgresql://"),
        ("BWENGE_LLM_PROVIDERS", '[{"api_key": "' + SECRET + '"}]', "BWENGE_LLM_PROVIDERS.0.base_url: Field required"),
        ("BWENGE_LLM_PROVIDERS", '{"api_key": "' + SECRET, "it must be JSON"),
        ("BWENGE_LLM_FIRST_TOKEN_SECONDS", "0", "BWENGE_LLM_FIRST_TOKEN_SECONDS: "),
        ("BWENGE_REFRESH_GRACE_SECONDS", "3600", "BWENGE_REFRESH_GRACE_SECONDS: "),
    ],
)
async def test_a_wrong_setting_ends_with_2_and_is_named_without_its_value(
    bwenge: Command, name: str, value: str, told: str
) -> None:
    ended = await bwenge("migrate", **{name: value})
    assert ended.code == 2
    assert told in ended.complaint
    assert ended.complaint.startswith("bwenge: ")
    assert SECRET not in ended.output + ended.complaint


async def test_a_setting_of_the_env_file_is_checked_likewise(bwenge: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BWENGE_PORT=eight\n")
    ended = await bwenge("migrate")
    assert (ended.code, "BWENGE_PORT" in ended.complaint) == (2, True)


@pytest.mark.parametrize("demo", ["true", "1"])
async def test_production_refuses_demo_accounts(bwenge: Command, demo: str) -> None:
    ended = await bwenge("up", BWENGE_ENV="production", BWENGE_DEMO=demo)
    assert ended.code == 2
    assert "BWENGE_DEMO" in ended.complaint


async def test_production_refuses_demo_accounts_on_the_command_line_too(bwenge: Command) -> None:
    ended = await bwenge("up", "--demo", BWENGE_ENV="production", BWENGE_PUBLIC_URL="https://a.rw")
    assert (ended.code, "BWENGE_DEMO" in ended.complaint) == (2, True)


@pytest.mark.parametrize("command", ["up", "migrate"])
async def test_a_data_directory_that_is_a_file_is_named(bwenge: Command, tmp_path: Path, command: str) -> None:
    (tmp_path / "[taken]").touch()
    ended = await bwenge(command, "--data-dir", "[taken]", BWENGE_PORT=str(free_port()))
    assert (ended.code, ended.complaint) == (1, "bwenge: The data directory [taken] cannot be used: File exists.\n")


async def test_a_taken_port_is_told_before_anything_is_made(bwenge: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await bwenge("up", "--port", str(port))
    assert ended.code == 1
    assert ended.complaint.startswith(f"bwenge: Cannot listen on 127.0.0.1:{port}: Address already in use.")
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_secret_is_named(bwenge: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret.key").write_text("short")
    ended = await bwenge("migrate")
    assert ended.code == 1
    assert "data/secret.key is damaged" in ended.complaint


async def test_a_database_that_does_not_answer_is_told_without_its_password(bwenge: Command) -> None:
    with refused_port() as port:
        ended = await bwenge("migrate", DATABASE_URL=f"postgresql://bwenge:{SECRET}@127.0.0.1:{port}/bwenge")
    assert ended.code == 1
    assert "DATABASE_URL does not answer" in ended.complaint
    assert SECRET not in ended.output + ended.complaint


async def test_an_administrator_who_may_not_migrate_is_told_in_the_servers_words(
    bwenge: Command, admin_url: URL
) -> None:
    administrator = admin_url.set(username="mere_reader", password=SECRET)
    engine = create_async_engine(admin_url)
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE ROLE mere_reader LOGIN PASSWORD '{SECRET}'"))
    try:
        ended = await bwenge("migrate", DATABASE_URL=administrator.render_as_string(hide_password=False))
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DROP ROLE mere_reader"))
        await engine.dispose()
    assert ended.code == 1
    assert ended.complaint.startswith("bwenge: PostgreSQL refused to prepare the database: permission denied")
    assert SECRET not in ended.output + ended.complaint
