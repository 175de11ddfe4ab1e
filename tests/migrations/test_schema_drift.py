"""The migration history makes exactly the schema that the models declare."""

from typing import Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from bwenge.migrations.access import ACCESS
from bwenge.migrations.metadata import metadata
from bwenge.migrations.runner import alembic_config

_DEFINITIONS: Final = text(
    """
    SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = CAST(:schema AS regnamespace) AND contype <> 'n'
    UNION ALL
    SELECT indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = CAST(:schema AS regnamespace)
    UNION ALL
    SELECT attrelid::regclass::text, attname::text,
           format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
           || coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    """
)


def definitions(connection: Connection, schema: str) -> set[tuple[str, ...]]:
    """Columns, constraints and indexes as PostgreSQL prints them, without the schema's own name."""
    rows = connection.execute(_DEFINITIONS, {"schema": schema})
    cleaned = {tuple(str(part).replace(f"{schema}.", "") for part in row) for row in rows}
    return {row for row in cleaned if row[0] != "alembic_version"}


def test_alembic_finds_nothing_to_migrate(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True})

    assert compare_metadata(context, metadata) == []


def test_checks_partial_indexes_and_defaults_are_those_of_the_models(connection: Connection) -> None:
    """Alembic compares neither the text of checks nor the predicate of an index, so PostgreSQL prints both sides."""
    connection.execute(text("CREATE SCHEMA declared"))
    metadata.create_all(connection.execution_options(schema_translate_map={None: "declared"}))

    # With public on the path its names are printed bare, and those of the other schema with their schema's name.
    migrated, declared = definitions(connection, "public"), definitions(connection, "declared")

    assert sorted(migrated - declared) == []
    assert sorted(declared - migrated) == []


def test_the_history_is_one_line() -> None:
    script = ScriptDirectory.from_config(alembic_config())

    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    assert not any(revision.is_merge_point or revision.is_branch_point for revision in script.walk_revisions())


def test_each_table_with_updated_at_has_its_trigger(connection: Connection) -> None:
    triggers = connection.execute(
        text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'set_updated_at' AND tgenabled <> 'D'")
    ).scalars()

    assert set(triggers) == {table.name for table in metadata.tables.values() if "updated_at" in table.columns}


def test_each_table_has_its_line_in_the_list_of_access() -> None:
    assert sorted(ACCESS) == sorted(metadata.tables)


def test_a_table_with_org_id_declares_it_as_its_tenant() -> None:
    undeclared = {
        name for name, table in metadata.tables.items() if "org_id" in table.columns and ACCESS[name].tenant != "org_id"
    }

    assert undeclared == set()


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_each_foreign_key_says_what_happens_on_delete(table: str) -> None:
    silent = [str(key.name) for key in metadata.tables[table].foreign_key_constraints if key.ondelete is None]

    assert silent == []
