"""What a migration makes of the rows that it finds."""

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from bwenge.kit.db import OWNER_ROLE
from bwenge.kit.ids import new_id
from bwenge.migrations.access import apply_access
from bwenge.migrations.runner import alembic_config


@pytest.fixture
def connection(admin_url: URL) -> Iterator[Connection]:
    """A connection of the administrator whose changes are rolled back."""
    engine = create_engine(admin_url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def test_what_was_asked_for_before_roles_were_kept_was_asked_for_by_owners(connection: Connection) -> None:
    connection.execute(text(f"SET LOCAL ROLE {OWNER_ROLE}"))
    command.downgrade(alembic_config(connection), "0010")
    connection.execute(text("RESET ROLE"))
    asked, unasked = new_id(), new_id()
    for job_id, requested_by in ((asked, new_id()), (unasked, None)):
        connection.execute(
            text("INSERT INTO jobs (id, org_id, kind, payload, requested_by) VALUES (:id, :org, 'work', '{}', :by)"),
            {"id": job_id, "org": new_id(), "by": requested_by},
        )

    connection.execute(text(f"SET LOCAL ROLE {OWNER_ROLE}"))
    command.upgrade(alembic_config(connection), "head")
    apply_access(connection)
    connection.execute(text("RESET ROLE"))

    found = connection.execute(
        text("SELECT id, requested_as FROM jobs WHERE id IN (:asked, :unasked)"), {"asked": asked, "unasked": unasked}
    )
    assert {row.id: row.requested_as for row in found} == {asked: "owner", unasked: None}
