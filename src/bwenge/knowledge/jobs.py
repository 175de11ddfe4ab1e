"""The jobs that knowledge asks for: names, payloads, and their order."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from bwenge.kit.blobs.references import LEASE
from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.jobs.queue import ClaimedJob, NewJob

INGEST: Final = "knowledge.ingest"
PURGE: Final = "knowledge.purge"
SWEEP_FILE: Final = "knowledge.sweep_file"


def ingest(source_id: UUID, *, org_id: UUID) -> NewJob:
    return NewJob(INGEST, {"source_id": str(source_id)}, org_id=org_id, ordering_key=f"source:{source_id}")


def purge(source_id: UUID, key: BlobKey) -> NewJob:
    """Comes after the source's ingestion, should that still be running."""
    payload = {"source_id": str(source_id), "sha256": key.sha256}
    return NewJob(PURGE, payload, org_id=key.org_id, ordering_key=f"source:{source_id}")


def sweep_file(key: BlobKey) -> NewJob:
    """Looks, when an upload's lease has ended, whether the file came to be needed."""
    return NewJob(SWEEP_FILE, {"sha256": key.sha256}, org_id=key.org_id, delay=LEASE + timedelta(minutes=1))


def source_id_of(job: ClaimedJob) -> UUID:
    return UUID(job.payload["source_id"])


def org_id_of(job: ClaimedJob) -> UUID:
    if job.org_id is None:
        raise ValueError(f"job {job.id} of kind {job.kind} names no organisation")
    return job.org_id


def key_of(job: ClaimedJob) -> BlobKey:
    return BlobKey(org_id_of(job), job.payload["sha256"])
