"""What a migration makes of the rows that it finds."""

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from bwenge.kit.db import OWNER_ROLE
from bwenge.kit.ids import new_id
from bwenge.migrations.access import apply_access
from bwenge.migrations.runner import alembic_config


def test_what_was_asked_for_before_roles_were_kept_was_asked_for_by_owners(connection: Connection) -> None:
    _migrate(connection, command.downgrade, "0010")
    asked, unasked = new_id(), new_id()
    for job_id, requested_by in ((asked, new_id()), (unasked, None)):
        connection.execute(
            text("INSERT INTO jobs (id, org_id, kind, payload, requested_by) VALUES (:id, :org, 'work', '{}', :by)"),
            {"id": job_id, "org": new_id(), "by": requested_by},
        )

    _migrate(connection, command.upgrade, "head")

    found = connection.execute(
        text("SELECT id, requested_as FROM jobs WHERE id IN (:asked, :unasked)"), {"asked": asked, "unasked": unasked}
    )
    assert {row.id: row.requested_as for row in found} == {asked: "owner", unasked: None}


def test_codes_of_unknown_issuers_do_not_stop_an_upgrade(connection: Connection) -> None:
    _migrate(connection, command.downgrade, "0010")
    org_id, user_id = new_id(), new_id()
    for statement in (
        "INSERT INTO organizations (id, name) VALUES (:org, 'School')",
        "INSERT INTO users (id, org_id, name, email, password_hash, role) VALUES (:id, :org, 'K', 'k@x', '', 'user')",
        "INSERT INTO password_reset_codes (user_id, org_id, code_hash, expires_at) VALUES (:id, :org, 'x', now())",
    ):
        connection.execute(text(statement), {"org": org_id, "id": user_id} if ":id," in statement else {"org": org_id})

    _migrate(connection, command.upgrade, "head")

    assert connection.scalar(text("SELECT count(*) FROM password_reset_codes")) == 0


def _migrate(connection: Connection, step: Callable[[Config, str], None], revision: str) -> None:
    connection.execute(text(f"SET LOCAL ROLE {OWNER_ROLE}"))
    step(alembic_config(connection), revision)
    if step is command.upgrade:
        apply_access(connection)
    connection.execute(text("RESET ROLE"))
