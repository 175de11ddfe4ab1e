"""A content is removed when nobody needs it, and never while somebody might."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.kit.blobs import references
from bwenge.kit.blobs.references import BlobBusy
from bwenge.kit.blobs.store import BlobKey, BlobMissing, BlobStore
from bwenge.kit.ids import new_id
from bwenge.knowledge.removal import SourceRemoval
from tests.support.databases import SavepointDatabase


@pytest.fixture
def key(org_id: UUID) -> BlobKey:
    return BlobKey(org_id, "ab" * 32)


async def lease(database: SavepointDatabase, key: BlobKey, owner: UUID) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=owner, size=3)


async def refer(database: SavepointDatabase, key: BlobKey, owner: UUID) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.refer(session, key, owner_id=owner)


async def drop(database: SavepointDatabase, key: BlobKey, owner: UUID) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.drop_reference(session, key, owner_id=owner)


async def condemn(database: SavepointDatabase, key: BlobKey) -> bool:
    async with database.unit_of_work(key.org_id) as session:
        return await references.condemn(session, key)


async def test_a_leased_content_stays(database: SavepointDatabase, key: BlobKey) -> None:
    await lease(database, key, new_id())
    assert not await condemn(database, key)


async def test_a_content_stays_until_its_last_reference_is_dropped(database: SavepointDatabase, key: BlobKey) -> None:
    first, second = new_id(), new_id()
    for owner in (first, second):
        await lease(database, key, owner)
        await refer(database, key, owner)
    await drop(database, key, first)
    assert not await condemn(database, key)
    await drop(database, key, second)
    assert await condemn(database, key)


async def test_a_lease_that_has_ended_holds_nothing(database: SavepointDatabase, key: BlobKey) -> None:
    await lease(database, key, new_id())
    async with database.unit_of_work(key.org_id) as session:
        await session.execute(text("UPDATE blob_references SET expires_at = clock_timestamp() - interval '1 s'"))
    assert await condemn(database, key)


async def test_a_content_that_is_being_removed_is_not_leased(database: SavepointDatabase, key: BlobKey) -> None:
    owner = new_id()
    await lease(database, key, owner)
    await drop(database, key, owner)
    assert await condemn(database, key)
    with pytest.raises(BlobBusy):
        await lease(database, key, new_id())


async def test_a_reference_without_its_lease_is_refused(database: SavepointDatabase, key: BlobKey) -> None:
    with pytest.raises(BlobBusy):
        await refer(database, key, new_id())


async def test_a_removal_may_be_repeated_after_any_of_its_steps(
    database: SavepointDatabase, key: BlobKey, tmp_path: Path
) -> None:
    store = BlobStore.on_disk(tmp_path / "blobs")
    removal = SourceRemoval(database, store)
    (tmp_path / "content").write_bytes(b"abc")
    owner = new_id()
    await lease(database, key, owner)
    await store.put(key, tmp_path / "content")
    await drop(database, key, owner)
    assert await condemn(database, key)  # and died here
    await removal.remove_file(key)
    await removal.remove_file(key)
    with pytest.raises(BlobMissing):
        await store.fetch(key, tmp_path / "copy")
    await lease(database, key, new_id())


async def test_what_was_put_is_read_back_whole_and_by_range(key: BlobKey, tmp_path: Path) -> None:
    store = BlobStore.on_disk(tmp_path / "blobs")
    (tmp_path / "content").write_bytes(bytes(range(256)) * 10_000)
    await store.put(key, tmp_path / "content")
    await store.put(key, tmp_path / "content")
    await store.fetch(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "content").read_bytes()
    assert b"".join([piece async for piece in store.read(key, start=255, end=258)]) == b"\xff\x00\x01"
    await store.delete(key)
    await store.delete(key)
