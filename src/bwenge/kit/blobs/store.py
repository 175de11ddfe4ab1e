"""Contents in object storage, keyed by tenant and SHA-256, behind one interface for disk, S3, GCS and Azure."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote
from uuid import UUID

import obstore
import structlog
from obstore.exceptions import BaseError, GenericError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from bwenge.kit.errors import Unavailable

_log = structlog.get_logger(__name__)

_CHUNK_BYTES: Final = 1024 * 1024
_LISTED_AT_ONCE: Final = 500
_FILE_SCHEME: Final = "file://"


@dataclass(frozen=True, slots=True)
class BlobKey:
    """A content of a tenant; never shared between tenants, even where the bytes are equal."""

    org_id: UUID
    sha256: str

    @property
    def path(self) -> str:
        return f"{self.org_id}/{self.sha256}"


class BlobMissing(Exception):
    """The store does not hold the content that a row speaks of, or other bytes in its place."""


class StorageUnavailable(Unavailable):
    """The disk is full, or the store refuses or does not answer."""

    title = "Files cannot be stored at the moment; send it again later"


class BlobStore:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # What a disk is given it may hold back for seconds; object stores answer when a content is safe.
        self._folder = Path(store.prefix) if isinstance(store, LocalStore) and store.prefix else None

    @classmethod
    def on_disk(cls, folder: Path) -> "BlobStore":
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(LocalStore(folder))

    @classmethod
    def at(cls, url: str) -> "BlobStore":
        """A store by its address: `file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`.

        Credentials come from the environment, by each provider's own names (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …).
        """
        if url.startswith(_FILE_SCHEME):
            return cls.on_disk(Path(unquote(url.removeprefix(_FILE_SCHEME))))
        return cls(from_url(url))

    async def put(self, key: BlobKey, file: Path) -> None:
        """Store the file's content so that it outlasts a loss of power; it appears whole or not.

        Writing the same content twice is the same as once.

        Raises:
            StorageUnavailable: it does not count as stored.
        """
        try:
            await obstore.put_async(self._store, key.path, file)
            if self._folder is not None:
                await asyncio.to_thread(_sync_to_disk, self._folder, key)
        except (BaseError, OSError) as error:
            _log.exception("blob_not_stored", sha256=key.sha256)
            raise StorageUnavailable from error

    async def remove_leftovers(self) -> None:
        """Remove what killed writers left on the local disk. Only where nobody writes at the moment."""
        if self._folder is not None:
            await asyncio.to_thread(_remove_leftovers, self._folder)

    async def fetch(self, key: BlobKey, to: Path) -> None:
        """Copy the content to a file, without holding it in memory.

        Raises:
            BlobMissing: also where the copy is not, byte for byte, what was stored.
        """
        found = hashlib.sha256()
        with to.open("wb") as file:
            async for piece in self.read(key):
                await asyncio.to_thread(_take, piece, file, found)
        if found.hexdigest() != key.sha256:
            raise BlobMissing(f"{key.sha256} is damaged")

    async def read(self, key: BlobKey, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces.

        Raises:
            BlobMissing: before the first piece; also where the content has fewer bytes than `start`.
        """
        try:
            if end is not None:
                result = await obstore.get_async(self._store, key.path, options={"range": (start, end)})
            elif start:
                result = await obstore.get_async(self._store, key.path, options={"range": {"offset": start}})
            else:
                result = await obstore.get_async(self._store, key.path)
        except (NotFoundError, FileNotFoundError) as error:
            raise BlobMissing(key.sha256) from error
        except GenericError as error:
            # Stores word it differently that a range begins past the end, so what they hold is asked for.
            if (await obstore.head_async(self._store, key.path))["size"] <= start:
                raise BlobMissing(f"{key.sha256} is damaged") from error
            raise
        async for piece in result.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(piece)

    async def delete(self, key: BlobKey) -> None:
        """Remove the content; to remove what is not there is no error."""
        try:
            await obstore.delete_async(self._store, key.path)
        except (NotFoundError, FileNotFoundError):
            return

    async def tenants(self) -> set[UUID]:
        """Of whom the store holds anything; on the local disk, also a killed writer's leftovers or an empty folder."""
        found = await obstore.list_with_delimiter_async(self._store)
        return {org_id for prefix in found["common_prefixes"] if (org_id := _tenant_of(prefix)) is not None}

    async def delete_all(self, org_id: UUID) -> None:
        """Remove every content of a tenant that the store holds, whether a row speaks of it or not."""
        async for found in obstore.list(self._store, prefix=str(org_id), chunk_size=_LISTED_AT_ONCE):
            await obstore.delete_async(self._store, [content["path"] for content in found])
        if self._folder is not None:
            await asyncio.to_thread(_remove_folder, self._folder / str(org_id))


def _tenant_of(prefix: str) -> UUID | None:
    """None for what is none of the platform's."""
    try:
        return UUID(prefix.rstrip("/"))
    except ValueError:
        return None


def _remove_folder(folder: Path) -> None:
    """With what killed writers left in it, which the store does not list; a writer at work begins it anew."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return


def _take(piece: bytes, file: BinaryIO, found: "hashlib._Hash") -> None:
    file.write(piece)
    found.update(piece)


def _sync_to_disk(folder: Path, key: BlobKey) -> None:
    """The file, its name in the tenant's folder, and that folder's name, which may be new."""
    file = folder / key.path
    for path in (file, file.parent, folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """The store writes a content as `name#number` and renames it when it is whole."""
    for file in folder.glob("*/*#*"):
        file.unlink(missing_ok=True)
