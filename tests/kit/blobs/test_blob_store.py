"""Contents on disk behind the one interface."""

import hashlib
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


async def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    BlobStore.on_disk(tmp_path / "blobs")
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
