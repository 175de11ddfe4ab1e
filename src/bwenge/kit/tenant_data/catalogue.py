"""All that the database holds of a tenant, found in the metadata, so that a table added tomorrow is there tomorrow.

What cannot be read off a table is given as reviewed lists: which columns are secret, which tables are derived from
others, and which records stay when the tenant goes.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from sqlalchemy import JSON, Column, LargeBinary, MetaData, String, Table

_SECRET_WORDS: Final = frozenset({"hash", "password", "secret", "token", "encrypted", "ciphertext"})
"""A text or JSON column whose name holds one of these is a secret, as is every column of bytes."""


class Replacement(Enum):
    """What stands in a kept record where the tenant's own value stood."""

    REFERENCE = "reference"
    """The tombstone's own, the same in all records of the tenant, in the place of the tenant's id."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """How the rows of a table stay when their tenant is erased: every column is named in one of the two.

    Attributes:
        replaced: Columns that say whose the record is or was, the tenant column among them.
        kept: Columns that the law wants as they are.
    """

    replaced: Mapping[str, Replacement]
    kept: Collection[str]


@dataclass(frozen=True, slots=True)
class TenantTable:
    """A table of which each row belongs to a tenant.

    Attributes:
        tenant: The name of the column that says to which.
        description: What a row of it is, in a sentence for the tenant.
        secrets: Names of columns that are handed over to nobody.
        derived_from: Where the same can be computed from, for a table that holds nothing of its own.
        record: How its rows stay; None where they go with the tenant.
    """

    table: Table
    tenant: str
    description: str
    secrets: frozenset[str] = field(default_factory=frozenset)
    derived_from: str | None = None
    record: KeptRecord | None = None

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def tenant_column(self) -> Column[Any]:
        return self.table.columns[self.tenant]

    @property
    def shown(self) -> list[Column[Any]]:
        """The columns that an export hands over."""
        return [column for column in self.table.columns if column.name not in self.secrets]


@dataclass(frozen=True, slots=True)
class TenantCatalogue:
    """Every table with rows of tenants, parents before children."""

    tables: tuple[TenantTable, ...]

    def __iter__(self) -> Iterator[TenantTable]:
        return iter(self.tables)

    @classmethod
    def of(
        cls,
        metadata: MetaData,
        *,
        tenants: Mapping[str, str],
        descriptions: Mapping[str, str],
        secrets: Collection[str] = (),
        derived: Mapping[str, str] | None = None,
        records: Mapping[str, KeptRecord] | None = None,
    ) -> "TenantCatalogue":
        """Put together from the metadata and the reviewed lists.

        Args:
            metadata: All tables; those without a tenant are left aside.
            tenants: The tenant column of each table that has one.
            descriptions: What a row is, by table.
            secrets: `table.column` of each secret that its name and type do not give away.
            derived: Where a table can be computed from, by table; no export holds it.
            records: How the rows of a table stay when their tenant goes, by table.

        Raises:
            ValueError: A list names what is not there, or a kept record does not account for each of its columns.
        """
        derived, records = derived or {}, records or {}
        tables = [table for table in metadata.sorted_tables if table.name in tenants]
        _require_known(tables, secrets=secrets, named=[*derived, *records])
        return cls(
            tuple(
                TenantTable(
                    table,
                    tenants[table.name],
                    descriptions.get(table.name, f"Rows of the table {table.name}."),
                    secrets=frozenset(
                        column.name for column in table.columns if str(column) in secrets or _is_secret(column)
                    ),
                    derived_from=derived.get(table.name),
                    record=_checked(table, tenants[table.name], records.get(table.name)),
                )
                for table in tables
            )
        )


def _is_secret(column: Column[Any]) -> bool:
    if isinstance(column.type, LargeBinary):
        return True
    return isinstance(column.type, String | JSON) and not _SECRET_WORDS.isdisjoint(column.name.split("_"))


def _require_known(tables: list[Table], *, secrets: Collection[str], named: Collection[str]) -> None:
    columns = {str(column) for table in tables for column in table.columns}
    unknown = (set(secrets) - columns) | (set(named) - {table.name for table in tables})
    if unknown:
        raise ValueError(f"there is no {', '.join(sorted(unknown))} among the tenants' data")


def _checked(table: Table, tenant: str, record: KeptRecord | None) -> KeptRecord | None:
    """A column that nobody has decided on could name a person for ten years, so it is none that is kept."""
    if record is None:
        return None
    decided = [*record.replaced, *record.kept]
    if sorted(decided) != sorted(table.columns.keys()):
        raise ValueError(f"each column of {table.name} is to be either replaced or kept")
    if tenant not in record.replaced:
        raise ValueError(f"{table.name}.{tenant} names the tenant, and is to be replaced")
    for key in table.foreign_keys:
        if key.parent.name not in record.replaced and key.ondelete in {"CASCADE", "SET NULL"}:
            raise ValueError(f"{key.parent} would go with the row that it points to, and is to be replaced")
    return record
