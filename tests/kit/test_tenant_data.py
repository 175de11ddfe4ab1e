"""The catalogue of a tenant's data, and what is done over it: read, erased, or kept without a name."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    insert,
    select,
    text,
)

from bwenge.kit.db import PLATFORM_ROLE, STEWARD_ROLE, WholeTenant
from bwenge.kit.ids import new_id
from bwenge.kit.tenant_data.catalogue import KeptRecord, Replacement, TenantCatalogue, TenantTable
from bwenge.kit.tenant_data.rows import READ_AT_ONCE, erase, has_any, json_lines, replace
from tests.support.databases import SavepointDatabase

REFERENCE, NOTHING = Replacement.REFERENCE, Replacement.NOTHING
RECORD = KeptRecord(replaced={"org_id": REFERENCE, "payer": NOTHING}, kept=("id", "amount"))

metadata = MetaData()
receipts = Table(
    "receipts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("org_id", Uuid),
    Column("payer", String),
    Column("amount", Integer),
)


def catalogue(**lists: Any) -> TenantCatalogue:
    return TenantCatalogue.of(metadata, tenants={"receipts": "org_id"}, descriptions={}, **lists)


@pytest.fixture
async def receipts_of(database: SavepointDatabase) -> tuple[UUID, UUID]:
    """Two tenants with five receipts each, in a table with rights and policies as every tenant table has."""
    ours, theirs = new_id(), new_id()
    rule = "org_id = nullif(current_setting('bwenge.org_id', true), '')::uuid"
    async with database.superuser() as connection:
        await connection.run_sync(metadata.create_all)
        for statement in (
            f"GRANT SELECT, UPDATE ON receipts TO {PLATFORM_ROLE}",
            f"GRANT SELECT, DELETE ON receipts TO {STEWARD_ROLE}",
            "ALTER TABLE receipts ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY tenant ON receipts TO {STEWARD_ROLE} USING ({rule}) WITH CHECK ({rule})",
            f"CREATE POLICY platform ON receipts TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)",
        ):
            await connection.execute(text(statement))
        rows = [
            {"id": new_id(), "org_id": org_id, "payer": "Claudine", "amount": amount}
            for org_id in (ours, theirs)
            for amount in range(5)
        ]
        await connection.execute(insert(receipts), rows)
    return ours, theirs


async def stored(database: SavepointDatabase, org_id: UUID) -> list[tuple[Any, ...]]:
    async with database.superuser() as connection:
        query = select(receipts.c.payer, receipts.c.amount).where(receipts.c.org_id == org_id)
        return [tuple(row) for row in await connection.execute(query.order_by(receipts.c.amount))]


async def test_a_tenants_rows_are_erased_in_batches_and_no_other_tenants(
    database: SavepointDatabase, receipts_of: tuple[UUID, UUID]
) -> None:
    ours, theirs = receipts_of
    [table] = catalogue()
    await erase(database, table, ours, at_once=2)
    assert await stored(database, ours) == []
    assert len(await stored(database, theirs)) == 5


async def test_whether_a_tenant_has_rows_is_found_out_without_another_tenants(
    database: SavepointDatabase, receipts_of: tuple[UUID, UUID]
) -> None:
    ours, theirs = receipts_of
    [table] = tables = catalogue()
    await erase(database, table, ours)
    assert not await has_any(database, tables, ours)
    assert await has_any(database, tables, theirs)
    assert not await has_any(database, TenantCatalogue(()), theirs)


async def test_a_kept_record_says_no_more_whose_it_was(
    database: SavepointDatabase, receipts_of: tuple[UUID, UUID]
) -> None:
    ours, theirs = receipts_of
    [table] = catalogue(records={"receipts": RECORD})
    reference = new_id()
    for _ in range(2):
        await replace(database, table, ours, reference=reference, at_once=2)
    assert await stored(database, ours) == []
    assert await stored(database, reference) == [(None, amount) for amount in range(5)]
    assert await stored(database, theirs) == [("Claudine", amount) for amount in range(5)]


async def test_a_table_that_is_erased_has_no_records_to_keep(database: SavepointDatabase) -> None:
    [table] = catalogue()
    with pytest.raises(ValueError, match="keeps no records"):
        await replace(database, table, new_id(), reference=new_id())


async def test_rows_are_read_a_bounded_number_at_a_time(
    database: SavepointDatabase, receipts_of: tuple[UUID, UUID]
) -> None:
    ours, _ = receipts_of
    async with database.superuser() as connection:
        more = [{"id": new_id(), "org_id": ours, "payer": "C", "amount": n} for n in range(2 * READ_AT_ONCE)]
        await connection.execute(insert(receipts), more)
    [table] = catalogue(secrets={"receipts.payer"})
    async with database.unit_of_work(WholeTenant(ours)) as session:
        batches = [list(batch) async for batch in json_lines(session, table, ours)]
    assert max(map(len, batches)) <= READ_AT_ONCE
    assert sum(map(len, batches)) == 2 * READ_AT_ONCE + 5
    assert not any("payer" in line for batch in batches for line in batch)


def table_of(*columns: Column[Any]) -> TenantTable:
    own = MetaData()
    Table("t", own, Column("id", Uuid, primary_key=True), Column("org_id", Uuid), *columns)
    [table] = TenantCatalogue.of(own, tenants={"t": "org_id"}, descriptions={"t": "A thing."})
    return table


def test_secrets_are_known_by_type_and_by_name() -> None:
    table = table_of(
        Column("key", LargeBinary),
        Column("code_hash", String),
        Column("reset_token", String),
        Column("secret", JSON),
        Column("token_count", Integer),
        Column("hashtag", String),
        Column("sha256", String),
    )
    assert table.secrets == {"key", "code_hash", "reset_token", "secret"}
    assert [column.name for column in table.shown] == ["id", "org_id", "token_count", "hashtag", "sha256"]
    assert table.description == "A thing."


@pytest.mark.parametrize(
    "record",
    [
        KeptRecord(replaced={"org_id": REFERENCE}, kept=("id", "amount")),
        KeptRecord(replaced={"org_id": REFERENCE, "payer": NOTHING}, kept=("id", "amount", "payer")),
        KeptRecord(replaced={"payer": NOTHING}, kept=("id", "amount", "org_id")),
    ],
)
def test_a_record_is_kept_only_when_each_column_was_decided_on(record: KeptRecord) -> None:
    with pytest.raises(ValueError, match="replaced"):
        catalogue(records={"receipts": record})


def test_a_record_does_not_go_with_what_it_points_to() -> None:
    own = MetaData()
    Table("payers", own, Column("id", Uuid, primary_key=True), Column("org_id", Uuid))
    Table(
        "bills",
        own,
        Column("id", Uuid, primary_key=True),
        Column("org_id", Uuid),
        Column("payer_id", Uuid, ForeignKey("payers.id", ondelete="CASCADE")),
    )
    tenants = {"payers": "org_id", "bills": "org_id"}
    record = KeptRecord(replaced={"org_id": REFERENCE}, kept=("id", "payer_id"))
    with pytest.raises(ValueError, match="would go with the row"):
        TenantCatalogue.of(own, tenants=tenants, descriptions={}, records={"bills": record})


@pytest.mark.parametrize(
    "lists", [{"secrets": {"receipts.pin"}}, {"derived": {"copies": "receipts"}}, {"records": {"copies": RECORD}}]
)
def test_a_list_names_only_what_is_there(lists: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="there is no"):
        catalogue(**lists)
