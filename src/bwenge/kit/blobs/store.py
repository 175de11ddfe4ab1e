"""Contents in object storage, keyed by tenant and SHA-256, behind one interface for disk, S3, GCS and Azure."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BlobKey:
    """A content of a tenant; never shared between tenants, even where the bytes are equal."""

    org_id: UUID
    sha256: str

    @property
    def path(self) -> str:
        return f"{self.org_id}/{self.sha256}"


class BlobMissing(Exception):
    """The store does not hold the content that a row speaks of."""


class BlobStore:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def on_disk(cls, folder: Path) -> "BlobStore":
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(LocalStore(folder))

    async def put(self, key: BlobKey, file: Path) -> None:
        """Store the file's content. Writing the same content twice is the same as once; it appears whole or not."""
        await obstore.put_async(self._store, key.path, file)

    async def fetch(self, key: BlobKey, to: Path) -> None:
        """Copy the content to a file, without holding it in memory. Raises `BlobMissing`."""
        with to.open("wb") as file:
            async for piece in self.read(key):
                file.write(piece)

    async def read(self, key: BlobKey, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces. Raises `BlobMissing` before the first."""
        try:
            if end is not None:
                result = await obstore.get_async(self._store, key.path, options={"range": (start, end)})
            elif start:
                result = await obstore.get_async(self._store, key.path, options={"range": {"offset": start}})
            else:
                result = await obstore.get_async(self._store, key.path)
        except (NotFoundError, FileNotFoundError) as error:
            raise BlobMissing(key.sha256) from error
        async for piece in result.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(piece)

    async def delete(self, key: BlobKey) -> None:
        """Remove the content; to remove what is not there is no error."""
        try:
            await obstore.delete_async(self._store, key.path)
        except (NotFoundError, FileNotFoundError):
            return
