"""Alembic's entry: runs the history on the connection that `bwenge.migrations.runner` hands over."""

from typing import Any

from alembic import context

from bwenge.migrations.metadata import metadata


def _include(_object: Any, name: str | None, kind: str, *_rest: Any) -> bool:
    return not (kind == "table" and name == "alembic_version")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_object=_include,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
