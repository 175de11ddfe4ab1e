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


def test_jobs_of_the_one_queue_of_before_wait_in_the_queues_of_their_kinds(connection: Connection) -> None:
    _migrate(connection, command.downgrade, "0013")
    expected = {
        "knowledge.ingest": "extraction",
        "organisation.export": "reports",
        "organisation.erase": "reports",
        "a.kind.of.later": "maintenance",
    }
    ids = {new_id(): kind for kind in expected}
    for job_id, kind in ids.items():
        connection.execute(
            text("INSERT INTO jobs (id, org_id, kind, payload) VALUES (:id, :org, :kind, '{}')"),
            {"id": job_id, "org": new_id(), "kind": kind},
        )

    _migrate(connection, command.upgrade, "head")

    rows = connection.execute(
        text("SELECT id, kind, queue, published_at FROM jobs WHERE id = ANY(:ids)"), {"ids": list(ids)}
    )
    found = rows.all()
    assert {row.kind: row.queue for row in found} == expected
    assert {row.published_at for row in found} == {None}


def test_an_embedding_that_is_still_to_be_done_becomes_the_one_job_of_before(connection: Connection) -> None:
    job_id = new_id()
    connection.execute(
        text(
            "INSERT INTO jobs (id, org_id, kind, queue, payload, dedupe_key)"
            " VALUES (:id, :org, 'knowledge.embed', 'embedding', '{}', 'embed:1')"
        ),
        {"id": job_id, "org": new_id()},
    )

    _migrate(connection, command.downgrade, "0013")

    row = connection.execute(text("SELECT kind, queue, dedupe_key FROM jobs WHERE id = :id"), {"id": job_id}).one()
    assert tuple(row) == ("knowledge.ingest", "default", None)


def _migrate(connection: Connection, step: Callable[[Config, str], None], revision: str) -> None:
    connection.execute(text(f"SET LOCAL ROLE {OWNER_ROLE}"))
    step(alembic_config(connection), revision)
    if step is command.upgrade:
        apply_access(connection)
    connection.execute(text("RESET ROLE"))
