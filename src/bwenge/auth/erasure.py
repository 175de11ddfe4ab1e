"""Erasing an organisation: closed at once, then removed by a job, and never revived by a backup.

The job goes over every tenant table in bounded transactions, children first, then over the blob store as the store
itself lists it, and takes the organisation's own row last. Each step may be repeated, so a kill at any moment costs
nothing but the time. What somebody was still writing meanwhile a sweep removes a little later.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import erasure_queries as queries
from bwenge.auth import member_queries, repository
from bwenge.auth.contract import AuditEntry, AuditLog
from bwenge.auth.errors import NameNotConfirmed
from bwenge.auth.models import Organization
from bwenge.auth.tombstones import TombstoneFile
from bwenge.kit.blobs.references import LEASE
from bwenge.kit.blobs.store import BlobStore
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import NotFound, Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.queue import ClaimedJob, NewJob, drop, drop_jobs_of, enqueue, find_unfinished
from bwenge.kit.jobs.queues import MAINTENANCE, REPORTS
from bwenge.kit.jobs.reports import report_progress
from bwenge.kit.telemetry import bind_client_address
from bwenge.kit.tenant_data import rows
from bwenge.kit.tenant_data.catalogue import TenantCatalogue

_log = structlog.get_logger(__name__)

ERASE: Final = "organisation.erase"
SWEEP: Final = "organisation.sweep_erased"

ATTEMPTS: Final = 40
"""An erasure, and its sweep, is tried for three hours: the blob store may be away for long."""
SWEEP_AFTER: Final = LEASE + timedelta(minutes=5)
"""By then an upload that had begun before the deletion has ended, or its lease has."""

Step = Callable[[], Awaitable[None]]
OnProgress = Callable[[float], Awaitable[None]]


class OrganisationErasure:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        audit: AuditLog,
        catalogue: TenantCatalogue,
        tombstones: TombstoneFile,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._audit = audit
        self._catalogue = catalogue
        self._tombstones = tombstones

    async def request(self, principal: Principal, *, confirm_name: str | None = None) -> UUID:
        """Close the caller's organisation and ask for its erasure; returns the job.

        Raises:
            Unauthenticated: The caller is no active owner any more, or the organisation is being erased.
            NameNotConfirmed: `confirm_name` is given and is not the organisation's.
        """
        async with self._database.unit_of_work(PLATFORM) as session:
            try:
                organization = await member_queries.lock_organization(session, principal.org_id)
            except NotFound:
                raise Unauthenticated from None
            caller = await repository.get_active(session, principal)
            if caller is None or caller.role != Role.OWNER.value:
                raise Unauthenticated
            if confirm_name is not None and confirm_name != organization.name:
                finding = {"field": "confirm_name", "code": "mismatch", "message": NameNotConfirmed.title}
                raise NameNotConfirmed(errors=[finding])
            await self._note_request(session, organization.id)
            await queries.add_tombstones(session, {organization.id: new_id()})
            job_id = await self._begin(session, organization.id, requested_by=principal.user_id)
            if job_id is None:
                raise Unauthenticated
            return job_id

    async def run(self, job: ClaimedJob) -> None:
        """Erase what the job names. Its own row, which names it too, goes with the last of it."""
        org_id = UUID(job.payload["org_id"])

        async def tell(progress: float) -> None:
            await report_progress(self._database, job, progress)

        await self._erase(org_id, on_progress=tell)
        async with self._database.unit_of_work(PLATFORM) as session:
            await queries.note_erased(session, org_id)
            await enqueue(session, _sweep_of(org_id))
            await drop(session, job)
        _log.info("organisation_erased", org_id=str(org_id))

    async def sweep(self, job: ClaimedJob) -> None:
        """Remove what was written of an erased organisation after it was its turn.

        A job that names none is for all of them, of which some may have come back with a backup. The row of one that
        does goes with it.
        """
        if "org_id" not in job.payload:
            await self._sweep_all()
            return
        await self._erase(UUID(job.payload["org_id"]))
        async with self._database.unit_of_work(PLATFORM) as session:
            await drop(session, job)

    async def replay(self) -> None:
        """Close every organisation that was erased and is there again, and ask for its erasure.

        For the start, before anybody is served.
        """
        kept = await self._tombstones.read()
        async with self._database.unit_of_work(PLATFORM) as session:
            await queries.add_tombstones(session, kept)
            found = await queries.tombstones(session)
            unfinished = {tombstone.org_id for tombstone in found if not tombstone.is_erased}
            risen = await queries.existing(session, [tombstone.org_id for tombstone in found])
            for org_id in sorted(risen | unfinished):
                await self._begin(session, org_id)
            if found:
                await enqueue(session, NewJob(SWEEP, {}, queue=MAINTENANCE, dedupe_key=SWEEP))
        if risen:
            _log.warning("erased_organisations_found", count=len(risen))
        await self._tombstones.keep({tombstone.org_id: tombstone.reference for tombstone in found})

    async def _sweep_all(self) -> None:
        async with self._database.unit_of_work(PLATFORM) as session:
            found = await queries.tombstones(session)
        with_files = await self._blobs.tenants()
        for tombstone in found:
            if tombstone.is_erased and (
                tombstone.org_id in with_files or await rows.has_any(self._database, self._catalogue, tombstone.org_id)
            ):
                await self._erase(tombstone.org_id)

    async def _begin(self, session: AsyncSession, org_id: UUID, *, requested_by: UUID | None = None) -> UUID | None:
        """Returns the job; None where one that stood in the way ended at this moment."""
        await queries.close(session, [org_id])
        await drop_jobs_of(session, org_id)
        # Without an organisation: the job must outlive it.
        job = NewJob(
            ERASE,
            {"org_id": str(org_id)},
            queue=REPORTS,
            dedupe_key=f"{ERASE}:{org_id}",
            max_attempts=ATTEMPTS,
            requested_by=requested_by,
            requested_as=None if requested_by is None else Role.OWNER,
        )
        return await enqueue(session, job) or await find_unfinished(session, f"{ERASE}:{org_id}")

    async def _note_request(self, session: AsyncSession, org_id: UUID) -> None:
        """In the platform's log, for the organisation's own goes: who asked goes with it, as do all its people."""
        entry = AuditEntry(
            org_id=None,
            actor_id=None,
            action="organisation.deletion_requested",
            target_type="organisation",
            target_id=str(org_id),
            detail={"by": Role.OWNER.value},
        )
        with bind_client_address(None):
            await self._audit.record(session, entry)

    async def _erase(self, org_id: UUID, *, on_progress: OnProgress | None = None) -> None:
        async with self._database.unit_of_work(PLATFORM) as session:
            reference = await queries.reference_of(session, org_id)
        steps = self._steps(org_id, reference)
        for done, step in enumerate(steps, start=1):
            await step()
            if on_progress is not None:
                await on_progress(done / len(steps))

    def _steps(self, org_id: UUID, reference: UUID) -> list[Step]:
        """Records first, since they go with what they point to; the organisation's own row last."""

        async def keep_tombstone() -> None:
            await self._tombstones.keep({org_id: reference})

        async def remove_files() -> None:
            await self._blobs.delete_all(org_id)

        kept = [table for table in self._catalogue if table.record is not None]
        erased = [table for table in self._catalogue if table.record is None]
        own = [table for table in erased if table.name == Organization.__tablename__]
        children = [table for table in reversed(erased) if table not in own]
        return [
            keep_tombstone,
            *(partial(rows.replace, self._database, table, org_id, reference=reference) for table in kept),
            *(partial(rows.erase, self._database, table, org_id) for table in children),
            remove_files,
            *(partial(rows.erase, self._database, table, org_id) for table in own),
        ]


def _sweep_of(org_id: UUID) -> NewJob:
    return NewJob(SWEEP, {"org_id": str(org_id)}, queue=MAINTENANCE, delay=SWEEP_AFTER, max_attempts=ATTEMPTS)
