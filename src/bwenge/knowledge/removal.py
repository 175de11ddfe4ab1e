"""What is left to do after a deletion: the tombstone has hidden the source; here its remains go."""

from uuid import UUID

from bwenge.kit.blobs.removal import remove_unneeded
from bwenge.kit.blobs.store import BlobKey, BlobStore
from bwenge.kit.db import Database
from bwenge.kit.jobs.queue import enqueue
from bwenge.knowledge import jobs, repository


class SourceRemoval:
    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def purge(self, source_id: UUID, key: BlobKey) -> None:
        """Remove a deleted source's chunks, vectors, postings and row, and ask for the removal of its file."""
        async with self._database.unit_of_work(key.org_id) as session:
            if await repository.find_tombstone(session, source_id, org_id=key.org_id) is not None:
                await repository.delete_index(session, source_id, org_id=key.org_id)
                await repository.delete_source(session, source_id, org_id=key.org_id)
            await enqueue(session, jobs.remove_file(key))

    async def sweep_file(self, key: BlobKey) -> None:
        """Ask for the removal of a file whose upload may never have ended."""
        async with self._database.unit_of_work(key.org_id) as session:
            await enqueue(session, jobs.remove_file(key))

    async def remove_file(self, key: BlobKey) -> None:
        """Remove a file that nothing refers to; keep it where something does. May be repeated after a crash."""
        await remove_unneeded(self._database, self._blobs, key)
