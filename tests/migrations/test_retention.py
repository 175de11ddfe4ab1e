"""Every tenant table is erased or its records are kept, and no row of a tenant stands where neither looks."""

from typing import Final

import pytest

from bwenge.migrations.access import ACCESS
from bwenge.migrations.metadata import metadata
from bwenge.migrations.retention import DERIVED, RECORDS, tenant_catalogue

CATALOGUE: Final = {table.name: table for table in tenant_catalogue()}


def test_every_table_with_a_tenant_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == {name for name, access in ACCESS.items() if access.tenant is not None}


@pytest.mark.parametrize("name", sorted(set(metadata.tables) - set(CATALOGUE)))
def test_a_table_without_a_tenant_lets_a_tenants_rows_go(name: str) -> None:
    """What hangs on a tenant's row goes with it or lets go of it."""
    holding = [
        str(key.parent)
        for key in metadata.tables[name].foreign_keys
        if key.column.table.name in CATALOGUE and key.ondelete not in {"CASCADE", "SET NULL"}
    ]
    assert holding == []


def test_no_tenant_table_holds_back_what_comes_after_it() -> None:
    """Children go first: a key that restricts points only to a table that goes later, in the order of erasing."""
    order = [table.name for table in reversed(tuple(tenant_catalogue()))]
    for table in CATALOGUE.values():
        for key in table.table.foreign_keys:
            if key.ondelete not in {"CASCADE", "SET NULL"}:
                assert order.index(table.name) < order.index(key.column.table.name), str(key.parent)


def test_every_foreign_key_to_a_tenants_row_has_an_index() -> None:
    """Without one, each row that is erased has the whole table searched for what points to it."""
    for table in metadata.tables.values():
        led = {column.name for index in table.indexes for column in list(index.columns)[:1]}
        led |= {column.name for column in list(table.primary_key.columns)[:1]}
        for key in table.foreign_key_constraints:
            assert key.elements[0].parent.name in led, f"{table.name}.{key.elements[0].parent.name}"


def test_the_platform_may_take_a_tenants_name_out_of_each_record_that_stays() -> None:
    assert {name for name in RECORDS if "UPDATE" not in (ACCESS[name].platform or "")} == set()


def test_what_proves_who_somebody_is_is_never_exported() -> None:
    assert CATALOGUE["users"].secrets == {"password_hash"}
    assert CATALOGUE["refresh_tokens"].secrets == {"token_hash"}
    assert "payload" in CATALOGUE["jobs"].secrets


def test_each_table_that_is_exported_is_explained() -> None:
    unexplained = {name for name, table in CATALOGUE.items() if table.description.startswith("Rows of")}
    assert unexplained <= set(DERIVED)
