"""The jobs that knowledge asks for: names, payloads, and their order."""

from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from bwenge.kit.blobs.references import LEASE
from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.jobs.queue import ClaimedJob, NewJob
from bwenge.kit.jobs.queues import EMBEDDING, EXTRACTION, MAINTENANCE

INGEST: Final = "knowledge.ingest"
EMBED: Final = "knowledge.embed"
PURGE: Final = "knowledge.purge"
SWEEP_FILE: Final = "knowledge.sweep_file"
REMOVE_FILE: Final = "knowledge.remove_file"

REMOVAL_ATTEMPTS: Final = 40
"""A removal costs little and is tried for three hours: a store may be away for long."""


def ingest(source_id: UUID, *, org_id: UUID) -> NewJob:
    """Makes a source searchable by keyword, and then asks for `embed`."""
    return NewJob(
        INGEST,
        {"source_id": str(source_id)},
        org_id=org_id,
        queue=EXTRACTION,
        ordering_key=f"source:{source_id}",
    )


def embed(source_id: UUID, *, org_id: UUID) -> NewJob:
    """Makes a source that is searchable by keyword searchable by meaning too; asked for as often as one likes."""
    return NewJob(
        EMBED,
        {"source_id": str(source_id)},
        org_id=org_id,
        queue=EMBEDDING,
        dedupe_key=f"embed:{source_id}",
        ordering_key=f"source:{source_id}",
    )


def purge(source_id: UUID, key: BlobKey) -> NewJob:
    """Comes after the source's ingestion, should that still be running."""
    return NewJob(
        PURGE,
        {"source_id": str(source_id), "sha256": key.sha256},
        org_id=key.org_id,
        ordering_key=f"source:{source_id}",
        queue=MAINTENANCE,
        max_attempts=REMOVAL_ATTEMPTS,
    )


def sweep_file(key: BlobKey) -> NewJob:
    """Looks, when an upload's lease has ended, whether the file came to be needed."""
    return NewJob(
        SWEEP_FILE,
        {"sha256": key.sha256},
        org_id=key.org_id,
        delay=LEASE + timedelta(minutes=1),
        queue=MAINTENANCE,
        max_attempts=REMOVAL_ATTEMPTS,
    )


def remove_file(key: BlobKey) -> NewJob:
    """Removes a file that nothing needs.

    One removal of a file follows the other: what one has decided on, and is slow to do, must not meet a file that was
    stored anew after another had done it.
    """
    return NewJob(
        REMOVE_FILE,
        {"sha256": key.sha256},
        org_id=key.org_id,
        ordering_key=f"file:{key.path}",
        queue=MAINTENANCE,
        max_attempts=REMOVAL_ATTEMPTS,
    )


def finish_removal(key: BlobKey) -> NewJob:
    """The removal of a file on which one was decided, should its own job be dead; asked for as often as one likes."""
    return replace(remove_file(key), dedupe_key=f"finish_removal:{key.path}")


def source_id_of(job: ClaimedJob) -> UUID:
    return UUID(job.payload["source_id"])


def org_id_of(job: ClaimedJob) -> UUID:
    if job.org_id is None:
        raise ValueError(f"job {job.id} of kind {job.kind} names no organisation")
    return job.org_id


def key_of(job: ClaimedJob) -> BlobKey:
    return BlobKey(org_id_of(job), job.payload["sha256"])
