"""Handing an organisation all that is kept of it: one archive, made by a job and removed after a week.

The rows are read in one snapshot, so that they fit each other: a read-only transaction, as long as it takes to write
them to the local disk. The files, which never change under their names, follow when it has ended.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import export_queries as queries
from bwenge.auth.contract import AuditEntry, AuditLog
from bwenge.auth.errors import ExportNotStored
from bwenge.auth.export_archive import ArchiveWriter, Manifest, safe_name
from bwenge.auth.export_queries import FileUse
from bwenge.kit.blobs import references
from bwenge.kit.blobs.references import BlobBusy
from bwenge.kit.blobs.removal import remove_unneeded
from bwenge.kit.blobs.store import BlobKey, BlobMissing, BlobStore, StorageUnavailable
from bwenge.kit.db import PLATFORM, Database, WholeTenant
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import Principal
from bwenge.kit.jobs.queue import ClaimedJob, NewJob, enqueue, find_unfinished
from bwenge.kit.jobs.queues import MAINTENANCE, REPORTS
from bwenge.kit.jobs.reports import RESULT_PATH, find_result, keep_result, report_progress
from bwenge.kit.tenant_data.catalogue import TenantCatalogue, TenantTable
from bwenge.kit.tenant_data.rows import json_lines

_log = structlog.get_logger(__name__)

EXPORT: Final = "organisation.export"
EXPIRE: Final = "organisation.expire_export"
LIFETIME: Final = timedelta(days=7)
REMOVAL_ATTEMPTS: Final = 40

_ROWS_SHARE: Final = 0.5
"""Of an export's progress; its files have the rest."""
_NEVER_TOLD: Final = "it proves who somebody is, or opens something, and is told to nobody"


@dataclass(frozen=True, slots=True)
class StoredExport:
    key: BlobKey
    size: int


def path_of(org_id: UUID, export_id: UUID) -> str:
    return f"/orgs/{org_id}/exports/{export_id}/file"


class OrganisationExports:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        audit: AuditLog,
        catalogue: TenantCatalogue,
        work_dir: Path,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._audit = audit
        self._catalogue = catalogue
        self._work_dir = work_dir

    async def request(self, session: AsyncSession, principal: Principal) -> UUID:
        """Ask for an export; while the caller's last one is being made, it is that one. Returns the job."""
        key = f"{EXPORT}:{principal.org_id}:{principal.user_id}"
        job = NewJob(
            EXPORT,
            {},
            org_id=principal.org_id,
            queue=REPORTS,
            dedupe_key=key,
            requested_by=principal.user_id,
            requested_as=principal.role,
        )
        job_id = None
        while job_id is None:  # The one in the way may end before it is looked up.
            job_id = await enqueue(session, job) or await find_unfinished(session, key)
        entry = AuditEntry.by(principal, "organisation.export_requested", target=("job", job_id))
        await self._audit.record(session, entry)
        return job_id

    async def run(self, job: ClaimedJob) -> None:
        """Make the archive and store it.

        Raises:
            ExportNotStored: There is no room for it, or the store does not answer.
        """
        org_id = _org_id_of(job)
        self._work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with TemporaryDirectory(prefix="export-", dir=self._work_dir) as folder:
                archive = Path(folder) / "export.zip"
                await self._write(job, org_id, archive)
                await self._store(job, org_id, archive)
        except (StorageUnavailable, OSError) as error:
            raise ExportNotStored from error

    async def find(self, export_id: UUID, *, org_id: UUID) -> StoredExport:
        """Raises `NotFound` where there is none, or none any more."""
        async with self._database.unit_of_work(PLATFORM) as session:
            result = await find_result(session, export_id, org_id=org_id, kind=EXPORT)
        if result is None:
            raise NotFound
        return StoredExport(BlobKey(org_id, result["sha256"]), result["size"])

    async def expire(self, job: ClaimedJob) -> None:
        """Remove an archive whose week is over, or that an attempt which was killed left behind."""
        org_id, export_id = _org_id_of(job), UUID(job.payload["export_id"])
        key = BlobKey(org_id, job.payload["sha256"])
        async with self._database.unit_of_work(PLATFORM) as session:
            result = await find_result(session, export_id, org_id=org_id, kind=EXPORT)
            if result is not None and result["sha256"] == key.sha256:
                await keep_result(session, export_id, None)
            await references.drop_reference(session, key, owner_id=export_id)
        await remove_unneeded(self._database, self._blobs, key)

    async def _write(self, job: ClaimedJob, org_id: UUID, archive: Path) -> None:
        with ArchiveWriter(archive) as writer:
            async with self._database.unit_of_work(WholeTenant(org_id), snapshot=True) as session:
                manifest = Manifest(
                    organisation={"org_id": str(org_id), "name": await queries.name_of(session, org_id) or ""},
                    made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                )
                for table in self._catalogue:
                    await self._write_table(session, writer, manifest, table=table, org_id=org_id)
                files = await queries.stored_files(session, org_id, except_of=EXPORT)
                uses = await queries.uses_of_files(session, org_id, self._catalogue)
            await report_progress(self._database, job, _ROWS_SHARE)
            for done, (key, size) in enumerate(files, start=1):
                await self._write_file(writer, manifest, key, size=size, uses=uses.get(key.sha256, []))
                await report_progress(self._database, job, _ROWS_SHARE + (1 - _ROWS_SHARE) * done / len(files))
            manifest.left_out.append({"what": "earlier exports", "why": "they hold what this one holds, as it was"})
            await writer.add_text("manifest.json", manifest.to_json())
            await writer.add_text("README.txt", manifest.to_text())

    async def _write_table(
        self, session: AsyncSession, writer: ArchiveWriter, manifest: Manifest, *, table: TenantTable, org_id: UUID
    ) -> None:
        if table.derived_from is not None:
            manifest.left_out.append({"what": f"table {table.name}", "why": table.derived_from})
            return
        manifest.left_out.extend(
            {"what": f"column {table.name}.{column}", "why": _NEVER_TOLD} for column in sorted(table.secrets)
        )
        path = f"tables/{table.name}.jsonl"
        count = await writer.add_lines(path, json_lines(session, table, org_id))
        manifest.tables.append({"path": path, "table": table.name, "rows": count, "describes": table.description})

    async def _write_file(
        self, writer: ArchiveWriter, manifest: Manifest, key: BlobKey, *, size: int, uses: Sequence[FileUse]
    ) -> None:
        name = uses[0].file_name if uses else key.sha256
        path: str | None = f"files/{key.sha256[:16]}/{safe_name(name)}"
        describes = f"the file {name!r}, of {size} bytes"
        try:
            await writer.add_file(path or name, self._blobs.read(key))
        except BlobMissing:
            _log.warning("file_missing_in_export", sha256=key.sha256)
            path, describes = None, f"{describes}, which the store does not hold any more"
        manifest.files.append(
            {
                "path": path,
                "sha256": key.sha256,
                "size": size,
                "describes": describes,
                "used_by": [{"table": use.table, "id": use.row, "file_name": use.file_name} for use in uses],
            }
        )

    async def _store(self, job: ClaimedJob, org_id: UUID, archive: Path) -> None:
        """Refer to the archive before it is stored: whatever happens then, its removal is asked for."""
        sha256, size = await asyncio.to_thread(_measure, archive)
        key = BlobKey(org_id, sha256)
        async with self._database.unit_of_work(org_id) as session:
            if not await references.lease(session, key, owner_id=job.id, size=size):
                raise BlobBusy(retry_after=1)
            await references.refer(session, key, owner_id=job.id)
            await enqueue(session, _expiry(job.id, key))
        await self._blobs.put(key, archive)
        result = {RESULT_PATH: path_of(org_id, job.id), "sha256": sha256, "size": size}
        async with self._database.unit_of_work(PLATFORM) as session:
            await keep_result(session, job.id, result)


def _expiry(export_id: UUID, key: BlobKey) -> NewJob:
    return NewJob(
        EXPIRE,
        {"export_id": str(export_id), "sha256": key.sha256},
        org_id=key.org_id,
        queue=MAINTENANCE,
        delay=LIFETIME,
        max_attempts=REMOVAL_ATTEMPTS,
    )


def _org_id_of(job: ClaimedJob) -> UUID:
    if job.org_id is None:
        raise ValueError(f"job {job.id} of kind {job.kind} names no organisation")
    return job.org_id


def _measure(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
