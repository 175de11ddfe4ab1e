"""What the role that migrates needs, and what a migration never shows or writes down."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from bwenge.kit.db import APP_ROLE
from bwenge.kit.embedded_postgres import EmbeddedPostgres
from bwenge.migrations.runner import RolePasswords, migrate
from tests.support.waiting import eventually

PASSWORDS = RolePasswords(app="ibanga-rya-app", platform="ibanga-rya-platform", steward="ibanga-rya-steward")


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def server(folder: Path) -> Iterator[URL]:
    """The superuser's URL of a server that has never seen the platform, and that logs every statement."""
    settings = {"fsync": "off", "log_statement": "all", "log_min_error_statement": "error"}
    with EmbeddedPostgres(folder, password="test-only", settings=settings) as server:
        yield make_url(server.url)


def execute(url: URL, *statements: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def add_role(server: URL, name: str, attributes: str, *, extension: bool = True) -> URL:
    """A role that owns a database of its name; its URL."""
    execute(
        server,
        f"CREATE ROLE {name} LOGIN {attributes} PASSWORD 'test-only'",
        f"CREATE DATABASE {name} OWNER {name}",
    )
    if extension:
        execute(server.set(database=name), "CREATE EXTENSION vector")
    return server.set(username=name, password="test-only", database=name)


def test_a_role_without_createrole_is_told_so_and_no_password_is_shown(server: URL) -> None:
    with pytest.raises(ProgrammingError, match="permission denied to create role") as refused:
        migrate(add_role(server, "plain", "NOCREATEROLE"), PASSWORDS)
    assert "ibanga" not in "".join(traceback.format_exception(refused.value))


def test_a_role_that_may_not_make_the_extension_is_told_so(server: URL) -> None:
    administrator = add_role(server, "unprepared", "CREATEROLE", extension=False)
    with pytest.raises(ProgrammingError, match='permission denied to create extension "vector"'):
        migrate(administrator, PASSWORDS)


def test_a_role_that_may_create_roles_and_owns_a_prepared_database_is_enough(server: URL, folder: Path) -> None:
    administrator = add_role(server, "administrator", "CREATEROLE")
    assert migrate(administrator, PASSWORDS)
    assert not migrate(administrator, PASSWORDS)
    serving = administrator.set(drivername="postgresql", username=APP_ROLE, password=PASSWORDS.app)
    psycopg.connect(serving.render_as_string(hide_password=False)).close()
    assert_no_password_is_logged(folder)


def test_an_administrator_who_did_not_make_the_roles_is_told_so(server: URL, folder: Path) -> None:
    migrate(server, PASSWORDS)
    with pytest.raises(ProgrammingError, match="permission denied") as refused:
        migrate(add_role(server, "stranger", "CREATEROLE"), PASSWORDS)
    assert "ibanga" not in "".join(traceback.format_exception(refused.value))
    assert_no_password_is_logged(folder)


def assert_no_password_is_logged(folder: Path) -> None:
    def log() -> str:
        return "".join(path.read_text() for path in (folder / "postgres" / "log").glob("*.log"))

    eventually(lambda: f'ALTER ROLE "{APP_ROLE}" LOGIN PASSWORD \'SCRAM-SHA-256$' in log(), "the statement is logged")
    assert "ibanga" not in log()
