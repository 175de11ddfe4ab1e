"""A row in every table, made from the metadata alone, so that a table added tomorrow is tested tomorrow."""

import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import ARRAY, JSON, CheckConstraint, Column, MetaData, Table, types

from bwenge.kit.ids import new_id

Row = dict[str, Any]

_ALLOWED: Final = re.compile(r"(?P<column>\w+) IN \('(?P<value>[^']+)'")

_VALUES: Final[tuple[tuple[type[types.TypeEngine[Any]], Callable[[], Any]], ...]] = (
    (types.Uuid, new_id),
    (types.Boolean, lambda: True),
    (types.Integer, lambda: 1),
    (types.Numeric, lambda: 1),
    (types.DateTime, lambda: datetime(2026, 11, 23, 8, tzinfo=UTC)),
    (types.Date, lambda: date(2026, 11, 23)),
    (JSON, dict),
    (types.LargeBinary, lambda: secrets.token_bytes(32)),
    (types.String, lambda: secrets.token_hex(8)),
)


def tenant_rows(metadata: MetaData, org_id: UUID, *, tenants: Mapping[str, str]) -> dict[str, Row]:
    """One row of the tenant for each table, parents before children; keys point to the tenant's own rows.

    `tenants` names each tenant table's tenant column.
    """
    rows: dict[str, Row] = {}
    for table in metadata.sorted_tables:
        rows[table.name] = new_row(table, org_id, parents=rows, tenant_column=tenants.get(table.name))
    return rows


def new_row(table: Table, org_id: UUID, *, parents: Mapping[str, Row], tenant_column: str | None) -> Row:
    """A row that is valid beside the tenant's rows in `parents` (of which it reads those that its keys point to)."""
    row = {column.name: _value(column, table) for column in table.columns if column.server_default is None}
    for constraint in table.foreign_key_constraints:
        for element in constraint.elements:
            parent = parents.get(element.column.table.name, {})
            row[element.parent.name] = parent.get(element.column.name)
    if tenant_column is not None:
        row[tenant_column] = org_id
    return row


def _value(column: Column[Any], table: Table) -> Any:
    for constraint in table.constraints:
        found = _ALLOWED.search(str(constraint.sqltext)) if isinstance(constraint, CheckConstraint) else None
        if found is not None and found["column"] == column.name:
            return found["value"]
    if isinstance(column.type, HALFVEC | VECTOR):
        return [0.5] * (column.type.dim or 1)
    kind_of_values, is_array = column.type, isinstance(column.type, ARRAY)
    if isinstance(column.type, ARRAY):
        kind_of_values = column.type.item_type
    for kind, make in _VALUES:
        if isinstance(kind_of_values, kind):
            return [make()] if is_array else make()
    raise TypeError(f"no example of {column.type!r}, the type of {column}; add one here")
