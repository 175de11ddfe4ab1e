"""Contents on disk behind the one interface."""

import hashlib
import os
from pathlib import Path

import pytest

from bwenge.kit.blobs.store import BlobKey, BlobMissing, BlobStore
from bwenge.kit.ids import new_id

CONTENT = bytes(range(256)) * 20_000  # more than two pieces


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore.on_disk(tmp_path / "blobs")


async def put(store: BlobStore, tmp_path: Path, content: bytes = CONTENT) -> BlobKey:
    file = tmp_path / "sent"
    file.write_bytes(content)
    key = BlobKey(new_id(), hashlib.sha256(content).hexdigest())
    await store.put(key, file)
    return key


async def read(store: BlobStore, key: BlobKey, **bounds: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, **bounds)])


async def test_what_was_put_is_read_back(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    assert await read(store, key) == CONTENT


async def test_a_content_is_read_in_pieces(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    assert max([len(piece) async for piece in store.read(key)]) < len(CONTENT)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"start": 5}, CONTENT[5:]),
        ({"end": 5}, CONTENT[:5]),
        ({"start": 3, "end": 9}, CONTENT[3:9]),
        ({"start": len(CONTENT) - 1, "end": len(CONTENT)}, CONTENT[-1:]),
    ],
)
async def test_a_part_is_those_bytes(store: BlobStore, tmp_path: Path, bounds: dict[str, int], expected: bytes) -> None:
    key = await put(store, tmp_path)
    assert await read(store, key, **bounds) == expected


async def test_an_empty_content_is_a_content(store: BlobStore, tmp_path: Path) -> None:
    assert await read(store, await put(store, tmp_path, b"")) == b""


async def test_a_content_is_copied_to_a_file(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    await store.fetch(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


async def test_the_same_content_may_be_put_twice(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    await store.put(key, tmp_path / "sent")
    assert await read(store, key) == CONTENT


async def test_a_content_of_one_tenant_is_not_anothers(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    with pytest.raises(BlobMissing):
        await read(store, BlobKey(new_id(), key.sha256))


async def test_a_deleted_content_is_missing_and_may_be_deleted_again(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(BlobMissing):
        await store.fetch(key, tmp_path / "copy")


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"x", b""], ids=["cut", "changed", "emptied"])
async def test_a_damaged_content_is_not_taken_for_the_one_that_was_stored(
    store: BlobStore, tmp_path: Path, damage: bytes
) -> None:
    key = await put(store, tmp_path)
    (tmp_path / "blobs" / key.path).write_bytes(damage)
    with pytest.raises(BlobMissing):
        await store.fetch(key, tmp_path / "copy")


@pytest.mark.parametrize("start", [0, 5])
async def test_a_part_past_the_end_of_a_damaged_content_is_missing(
    store: BlobStore, tmp_path: Path, start: int
) -> None:
    key = await put(store, tmp_path)
    (tmp_path / "blobs" / key.path).write_bytes(b"")
    with pytest.raises(BlobMissing):
        await read(store, key, start=start, end=9)


async def test_a_content_is_on_the_disk_with_its_name_before_it_counts_as_stored(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    key = await put(store, tmp_path)
    folder = tmp_path / "blobs"
    assert synced == [path.stat().st_ino for path in (folder / key.path, folder / str(key.org_id), folder)]


async def test_what_a_killed_writer_left_is_removed_and_nothing_else(store: BlobStore, tmp_path: Path) -> None:
    key = await put(store, tmp_path)
    left = tmp_path / "blobs" / f"{key.path}#1"
    left.write_bytes(b"half of a con")
    await store.remove_leftovers()
    assert not left.exists()
    assert await read(store, key) == CONTENT


async def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    BlobStore.on_disk(tmp_path / "blobs")
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0


async def test_everything_of_a_tenant_is_removed_and_nothing_of_another(store: BlobStore, tmp_path: Path) -> None:
    ours, theirs = await put(store, tmp_path), await put(store, tmp_path)
    folder = tmp_path / "blobs" / str(ours.org_id)
    (folder / f"{ours.sha256}#1").write_bytes(b"half of it")

    for _ in range(2):
        await store.delete_all(ours.org_id)

    assert not folder.exists()
    assert await read(store, theirs) == CONTENT


async def test_the_tenants_are_those_of_whom_anything_is_left(store: BlobStore, tmp_path: Path) -> None:
    ours, theirs, folder = await put(store, tmp_path), await put(store, tmp_path), tmp_path / "blobs"
    await store.delete_all(theirs.org_id)
    half = new_id()
    (folder / str(half)).mkdir()
    (folder / str(half) / f"{ours.sha256}#1").write_bytes(b"half of it")
    (folder / "lost+found").mkdir()
    assert await store.tenants() == {ours.org_id, half}
