"""What the jobs of a deletion remove, in whatever order and however often they run."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from bwenge.kit.blobs import references
from bwenge.kit.blobs.store import BlobKey, BlobMissing, BlobStore
from bwenge.kit.ids import new_id
from bwenge.knowledge.removal import SourceRemoval
from tests.support.databases import SavepointDatabase
from tests.support.material import add_persona, add_source, tombstone

CONTENT = b"The fare from Kigali to Huye is 3,200 francs."


class InterruptedStore(BlobStore):
    """Dies before, or after, it deletes."""

    before = after = False

    async def delete(self, key: BlobKey) -> None:
        if self.before:
            raise ConnectionError("the store is away")
        await super().delete(key)
        if self.after:
            raise ConnectionError("killed")


@pytest.fixture
def blobs(tmp_path: Path) -> InterruptedStore:
    return InterruptedStore(BlobStore.on_disk(tmp_path / "blobs")._store)


@pytest.fixture
def removal(database: SavepointDatabase, blobs: InterruptedStore) -> SourceRemoval:
    return SourceRemoval(database, blobs)


@pytest.fixture
async def key(database: SavepointDatabase, blobs: InterruptedStore, org_id: UUID, tmp_path: Path) -> BlobKey:
    """A content that nothing refers to."""
    (tmp_path / "sent").write_bytes(CONTENT)
    key = BlobKey(org_id, "cd" * 32)
    async with database.unit_of_work(org_id) as session:
        await references.lease(session, key, owner_id=org_id, size=len(CONTENT))
        await references.drop_reference(session, key, owner_id=org_id)
    await blobs.put(key, tmp_path / "sent")
    return key


async def is_stored(blobs: BlobStore, key: BlobKey) -> bool:
    try:
        return b"".join([piece async for piece in blobs.read(key)]) == CONTENT
    except BlobMissing:
        return False


async def rows(database: SavepointDatabase) -> int:
    async with database.superuser() as connection:
        count: int = await connection.scalar(text("SELECT count(*) FROM blobs"))
        return count


async def hold(database: SavepointDatabase, key: BlobKey, owner_id: UUID, *, lease_only: bool = False) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=owner_id, size=len(CONTENT))
        if not lease_only:
            await references.refer(session, key, owner_id=owner_id)


async def test_a_file_that_nothing_needs_is_removed_with_its_row(
    removal: SourceRemoval, database: SavepointDatabase, blobs: InterruptedStore, key: BlobKey
) -> None:
    await removal.remove_file(key)
    assert (await is_stored(blobs, key), await rows(database)) == (False, 0)


@pytest.mark.parametrize("lease_only", [False, True])
async def test_a_file_that_something_needs_stays(
    removal: SourceRemoval, database: SavepointDatabase, blobs: InterruptedStore, key: BlobKey, *, lease_only: bool
) -> None:
    await hold(database, key, new_id(), lease_only=lease_only)
    await removal.remove_file(key)
    assert await is_stored(blobs, key)


async def test_the_file_of_an_upload_that_never_ended_is_swept_when_its_lease_has_ended(
    removal: SourceRemoval, database: SavepointDatabase, blobs: InterruptedStore, key: BlobKey
) -> None:
    await hold(database, key, new_id(), lease_only=True)
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE blob_references SET expires_at = now() - interval '1 s'"))
    await removal.remove_file(key)
    assert (await is_stored(blobs, key), await rows(database)) == (False, 0)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_removal_that_is_interrupted_is_finished_by_its_repeat(
    removal: SourceRemoval, database: SavepointDatabase, blobs: InterruptedStore, key: BlobKey, moment: str
) -> None:
    setattr(blobs, moment, True)
    with pytest.raises(ConnectionError):
        await removal.remove_file(key)
    setattr(blobs, moment, False)
    await removal.remove_file(key)
    assert (await is_stored(blobs, key), await rows(database)) == (False, 0)


async def test_a_removal_may_be_repeated(removal: SourceRemoval, key: BlobKey, database: SavepointDatabase) -> None:
    await removal.remove_file(key)
    await removal.remove_file(key)
    assert await rows(database) == 0


async def test_a_purge_removes_a_deleted_source_with_all_that_was_made_of_it(
    removal: SourceRemoval, database: SavepointDatabase, key: BlobKey
) -> None:
    persona_id = await add_persona(database, key.org_id)
    deleted = await add_source(database, key.org_id, persona_id, ["The first lesson.", "The second lesson."])
    kept = await add_source(database, key.org_id, persona_id, ["Another lesson."])
    await tombstone(database, key.org_id, deleted)
    await removal.purge(deleted, key)
    async with database.superuser() as connection:
        for table in ("knowledge_chunks", "chunk_vectors", "postings"):
            left = await connection.execute(text(f"SELECT DISTINCT source_id FROM {table}"))  # noqa: S608  # named above
            assert left.scalars().all() == [kept], table
        assert (await connection.execute(text("SELECT id FROM knowledge_sources"))).scalars().all() == [kept]


@pytest.mark.parametrize("asks", ["purge", "sweep"])
async def test_a_purge_and_a_sweep_ask_for_the_removal_of_the_file(
    removal: SourceRemoval, database: SavepointDatabase, key: BlobKey, asks: str
) -> None:
    """The purge of a source that is gone too, as after a crash."""
    await (removal.purge(new_id(), key) if asks == "purge" else removal.sweep_file(key))
    async with database.superuser() as connection:
        job = (await connection.execute(text("SELECT kind, payload, ordering_key FROM jobs"))).one()
    assert tuple(job) == ("knowledge.remove_file", {"sha256": key.sha256}, f"file:{key.path}")
