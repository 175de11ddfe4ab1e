"""Bring a database to the present schema: roles, the extension, the migration history, grants and policies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from bwenge.kit.db import APP_ROLE, OWNER_ROLE, PLATFORM_ROLE, STEWARD_ROLE
from bwenge.migrations.access import apply_access

_LOCK_KEY: Final = 0x62_77_65_6E_67_65
"""Advisory lock, so that two processes starting at once migrate one after the other ("bwenge" in ASCII)."""


@dataclass(frozen=True)
class RolePasswords:
    app: str = field(repr=False)
    platform: str = field(repr=False)
    steward: str = field(repr=False)


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations")
    return head


def migrate(admin_url: str | URL, passwords: RolePasswords) -> bool:
    """Create what is missing, as an administrator who may create roles and extensions.

    All of it is one transaction: a failure leaves the database as it was. Returns whether the schema changed.
    """
    with _administrator(admin_url) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        _ensure_roles(connection, passwords)
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        connection.execute(text(f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER_ROLE}"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {APP_ROLE}, {PLATFORM_ROLE}, {STEWARD_ROLE}"))
        connection.execute(text(f"SET LOCAL ROLE {OWNER_ROLE}"))
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        before = MigrationContext.configure(connection).get_current_revision()
        command.upgrade(alembic_config(connection), "head")
        apply_access(connection)
        return before != head_revision()


@contextmanager
def _administrator(admin_url: str | URL) -> Iterator[Connection]:
    engine = create_engine(make_url(admin_url), poolclass=NullPool, hide_parameters=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _ensure_roles(connection: Connection, passwords: RolePasswords) -> None:
    """Roles without BYPASSRLS; the owner cannot log in and is reached by SET ROLE only."""
    existing = set(connection.execute(text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'bwenge%'")).scalars())
    for role in {OWNER_ROLE, APP_ROLE, PLATFORM_ROLE, STEWARD_ROLE} - existing:
        connection.execute(text(f"CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"))
    connection.execute(text(f"GRANT {OWNER_ROLE} TO CURRENT_USER"))
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    serving = ((APP_ROLE, passwords.app), (PLATFORM_ROLE, passwords.platform), (STEWARD_ROLE, passwords.steward))
    for role, password in serving:
        # As psql's \password does it: the server's log and an error's text may hold the statement.
        verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
        connection.exec_driver_sql(statement.as_string(raw))
