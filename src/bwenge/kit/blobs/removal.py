"""Removing a content that nobody needs any more, from the store and from the rows that speak of it."""

from bwenge.kit.blobs import references
from bwenge.kit.blobs.store import BlobKey, BlobStore
from bwenge.kit.db import Database


async def remove_unneeded(database: Database, blobs: BlobStore, key: BlobKey) -> None:
    """Remove a content that nothing refers to; keep it where something does. May be repeated after a crash."""
    async with database.unit_of_work(key.org_id) as session:
        condemned = await references.condemn(session, key)
    if not condemned:
        return
    await blobs.delete(key)
    async with database.unit_of_work(key.org_id) as session:
        await references.forget(session, key)
