"""The use cases around sources: taking a file in, telling how far it is, listing, deleting."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.analytics.contract import EventRecorder, NewEvent
from bwenge.auth.contract import Members, Tenants
from bwenge.kit.blobs import references
from bwenge.kit.blobs.references import BlobBusy
from bwenge.kit.blobs.store import BlobKey, BlobStore
from bwenge.kit.db import Database
from bwenge.kit.errors import NotFound
from bwenge.kit.idempotency.once import EVERY_TIME, Once
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.kinds import TimedOut
from bwenge.kit.jobs.queue import enqueue
from bwenge.kit.pagination import PageRequest
from bwenge.knowledge import jobs, repository
from bwenge.knowledge.contract import PersonaAccess
from bwenge.knowledge.errors import SourceNotFound, StorageFull
from bwenge.knowledge.handover import hand_over
from bwenge.knowledge.models import KnowledgeChunk, KnowledgeSource
from bwenge.knowledge.sniffing import sniff
from bwenge.payments.contract import QuotaKind, Quotas

_log = structlog.get_logger(__name__)

# What a source's last words are when its job was buried, by the code of its death.
_STORAGE_FULL: Final = (StorageFull.code, "There was no room on the server's disk; upload the file again when there is")
_NOT_READ: Final = {
    StorageFull.code: _STORAGE_FULL,
    TimedOut.code: (TimedOut.code, "Reading this file takes too long"),
}
_WORKER_LOST: Final = ("worker_lost", "Reading this file failed again and again")
_NOT_EMBEDDED: Final = {StorageFull.code: _STORAGE_FULL}
_EMBEDDING_FAILED: Final = ("embedding_failed", "The text could not be embedded; it stays searchable by keyword")


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """An upload that stands whole on the local disk."""

    path: Path
    file_name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An original in the blob store; `type` is the source's, `size` in bytes."""

    key: BlobKey
    name: str
    type: str
    size: int


@dataclass(frozen=True, slots=True)
class Upload:
    source: KnowledgeSource
    duplicate: bool


class SourceService:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        personas: PersonaAccess,
        members: Members,
        tenants: Tenants,
        events: EventRecorder,
        quotas: Quotas,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._personas = personas
        self._members = members
        self._tenants = tenants
        self._events = events
        self._quotas = quotas

    async def upload(
        self,
        principal: Principal,
        persona_id: UUID,
        received: ReceivedFile,
        *,
        title: str | None,
        once: Once[Upload] = EVERY_TIME,
    ) -> Upload:
        """Store the file and ask for its indexing; the same content for the same persona is the existing source.

        A source that failed begins anew with the file that is sent again.

        Raises:
            NotFound, Forbidden: the persona.
            UnsupportedMedia: by content, whatever the name says.
            BlobBusy: the same file is being removed at this moment.
            StorageUnavailable: the store does not take it.
            QuotaExhausted: the plan has no storage left for it.
        """
        async with self._database.unit_of_work(principal.org_id) as session:
            await once.claim(session)
            await self._personas.require(session, principal, persona_id, write=True)
            existing = await self._same_content(session, principal.org_id, persona_id, received)
            if existing is not None and existing.status != "failed":
                return await _kept(session, once, Upload(existing, duplicate=True))
            if existing is None:
                # Before the file takes room in the store; what decides is the reservation beside the source's row.
                await self._quotas.require_room(session, principal.org_id, kind=QuotaKind.STORAGE, amount=received.size)
        if existing is None:
            source = await self._describe(principal, persona_id, received, title=title)
            await self._store(source, received)
            return await self._begin(principal, source, received, once=once)
        await self._store(existing, received)
        return await self._begin_anew(principal, existing, once=once)

    async def _store(self, source: KnowledgeSource, received: ReceivedFile) -> None:
        """Put the file into the store, under a lease that the source is to turn into a reference."""
        key = _key_of(source)
        async with self._database.unit_of_work(source.org_id) as session:
            is_leased = await references.lease(session, key, owner_id=source.id, size=received.size)
            await enqueue(session, jobs.sweep_file(key) if is_leased else jobs.finish_removal(key))
        if not is_leased:
            raise BlobBusy(retry_after=1)
        await self._blobs.put(key, received.path)

    async def _begin(
        self, principal: Principal, source: KnowledgeSource, received: ReceivedFile, *, once: Once[Upload]
    ) -> Upload:
        try:
            async with self._database.unit_of_work(source.org_id) as session:
                await once.claim(session)
                await repository.add_source(session, source)
                await self._ask_for_ingestion(session, principal, source)
                return await _kept(session, once, Upload(source, duplicate=False))
        except IntegrityError:
            return await self._lost_race(principal, source, received, once=once)

    async def _begin_anew(self, principal: Principal, failed: KnowledgeSource, *, once: Once[Upload]) -> Upload:
        async with self._database.unit_of_work(failed.org_id) as session:
            await once.claim(session)
            source = await repository.find_source(session, failed.id, org_id=failed.org_id, lock=True)
            if source is None:
                raise BlobBusy(retry_after=1)  # It was deleted meanwhile, and its file goes with it.
            if source.status != "failed":
                # A twin of this upload was quicker.
                return await _kept(session, once, Upload(source, duplicate=True))
            source.status, source.stage, source.progress, source.attempts = "pending", "queued", 0.0, 0
            source.error_code = source.error_message = None
            source.run += 1  # Whoever still works on it, though its job is dead, writes no more.
            await self._ask_for_ingestion(session, principal, source)
            return await _kept(session, once, Upload(source, duplicate=False))

    async def _ask_for_ingestion(self, session: AsyncSession, principal: Principal, source: KnowledgeSource) -> None:
        await references.refer(session, _key_of(source), owner_id=source.id)
        await enqueue(session, jobs.ingest(source.id, org_id=source.org_id))
        await self._events.record(session, _event("source_uploaded", principal, source))
        await self._quotas.reserve(
            session, source.org_id, kind=QuotaKind.STORAGE, amount=source.file_size, act_id=source.id
        )

    async def _describe(
        self, principal: Principal, persona_id: UUID, received: ReceivedFile, *, title: str | None
    ) -> KnowledgeSource:
        media_type = await asyncio.to_thread(sniff, received.path, name=received.file_name)
        return KnowledgeSource(
            id=new_id(),
            org_id=principal.org_id,
            persona_id=persona_id,
            uploaded_by=principal.user_id,
            title=title or Path(received.file_name).stem or received.file_name,
            file_name=received.file_name,
            type=media_type.value,
            file_size=received.size,
            sha256=received.sha256,
        )

    async def _lost_race(
        self, principal: Principal, source: KnowledgeSource, received: ReceivedFile, *, once: Once[Upload]
    ) -> Upload:
        """A twin of this upload was quicker, or the persona went away meanwhile."""
        org_id, persona_id = source.org_id, source.persona_id
        async with self._database.unit_of_work(org_id) as session:
            await once.claim(session)
            await references.drop_reference(session, _key_of(source), owner_id=source.id)
            await self._personas.require(session, principal, persona_id, write=True)
            existing = await self._same_content(session, org_id, persona_id, received)
            if existing is not None:
                return await _kept(session, once, Upload(existing, duplicate=True))
        raise SourceNotFound

    async def _same_content(
        self, session: AsyncSession, org_id: UUID, persona_id: UUID, received: ReceivedFile
    ) -> KnowledgeSource | None:
        return await repository.find_by_content(session, org_id=org_id, persona_id=persona_id, sha256=received.sha256)

    async def get(self, session: AsyncSession, principal: Principal, source_id: UUID) -> KnowledgeSource:
        return await self._find_usable(session, principal, source_id)

    async def queue_positions(
        self, session: AsyncSession, principal: Principal, sources: Iterable[KnowledgeSource]
    ) -> dict[UUID, int]:
        """By source: 1 for the next to begin; nothing for a source that has begun."""
        waiting = [source.id for source in sources if source.status == "pending"]
        if not waiting:
            return {}
        return await repository.queue_positions(session, waiting, org_id=principal.org_id)

    async def list_sources(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        persona_id: UUID | None,
        status: str | None,
        page: PageRequest,
    ) -> Sequence[KnowledgeSource]:
        if persona_id is not None:
            await self._personas.require(session, principal, persona_id, write=False)
        return await repository.list_sources(
            session,
            org_id=principal.org_id,
            persona_ids=principal.confined_to if persona_id is None else {persona_id},
            status=status,
            page=page,
        )

    async def list_chunks(
        self, session: AsyncSession, principal: Principal, source_id: UUID, *, page: PageRequest
    ) -> Sequence[KnowledgeChunk]:
        source = await self._find_usable(session, principal, source_id)
        return await repository.list_chunks(session, source.id, org_id=principal.org_id, page=page)

    async def require_searchable(self, principal: Principal, persona_id: UUID) -> None:
        """Raise what the persona's feature raises where the principal may not search it."""
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._personas.require(session, principal, persona_id, write=False)

    async def delete(self, session: AsyncSession, principal: Principal, source_id: UUID) -> None:
        """Hide the source from this transaction's commit on; a job removes what it left."""
        source = await self._find_usable(session, principal, source_id, lock=True)
        try:
            await self._personas.require(session, principal, source.persona_id, write=True)
        except NotFound:
            # The persona went before its sources: they are still to be deleted, by whom they belong to.
            if source.uploaded_by != principal.user_id and not principal.role.at_least(Role.ADMIN):
                raise
        key = _key_of(source)
        await repository.bury_source(session, source)
        await references.drop_reference(session, key, owner_id=source.id)
        await enqueue(session, jobs.purge(source.id, key))
        await self._events.record(session, _event("source_deleted", principal, source))
        await self._quotas.release(session, source.org_id, kind=QuotaKind.STORAGE, act_id=source.id)

    async def find_file(self, source_id: UUID, *, org_id: UUID, principal: Principal | None = None) -> StoredFile:
        """The original that a member asks for or, without `principal`, a signed address.

        An address opens nothing of an organisation that is being erased, or of a persona that was deleted.

        Raises:
            Unauthenticated: The principal is no active member any more.
            NotFound
        """
        async with self._database.unit_of_work(org_id) as session:
            if principal is not None:
                await self._members.require_active(session, principal)
                source = await self._find_usable(session, principal, source_id)
            else:
                await self._tenants.require_open(session, org_id)
                source = await self._find(session, source_id, org_id=org_id)
                await self._require_persona(session, source)
        return StoredFile(
            key=_key_of(source),
            name=source.file_name,
            type=source.type,
            size=source.file_size,
        )

    async def progress(self, source_id: UUID, *, org_id: UUID) -> KnowledgeSource:
        """The source as it stands, for whoever waits for it inside this process."""
        async with self._database.unit_of_work(org_id) as session:
            return await self._find(session, source_id, org_id=org_id)

    async def bury(self, session: AsyncSession, source_id: UUID, *, org_id: UUID, code: str) -> None:
        """Mark a source failed whose ingestion is dead, so that it never looks as if work went on.

        One that is searchable by keyword has had all that its ingestion is for, and goes on to be embedded.
        """
        source = await self._unfinished(session, source_id, org_id=org_id)
        if source is None:
            return
        if source.searchable == "none":
            _mark_failed(source, *_NOT_READ.get(code, _WORKER_LOST), cause=code)
        else:
            await hand_over(session, source)

    async def bury_embedding(self, session: AsyncSession, source_id: UUID, *, org_id: UUID, code: str) -> None:
        """Mark a source failed whose embedding is dead; what is found of it by keyword stays."""
        source = await self._unfinished(session, source_id, org_id=org_id)
        if source is not None:
            _mark_failed(source, *_NOT_EMBEDDED.get(code, _EMBEDDING_FAILED), cause=code)

    async def _unfinished(self, session: AsyncSession, source_id: UUID, *, org_id: UUID) -> KnowledgeSource | None:
        source = await repository.find_source(session, source_id, org_id=org_id, lock=True)
        return None if source is None or source.status in {"ready", "failed"} else source

    async def _find_usable(
        self, session: AsyncSession, principal: Principal, source_id: UUID, *, lock: bool = False
    ) -> KnowledgeSource:
        source = await self._find(session, source_id, org_id=principal.org_id, lock=lock)
        _require_usable(source, principal)
        return source

    async def _require_persona(self, session: AsyncSession, source: KnowledgeSource) -> None:
        if not await self._personas.existing(session, {source.persona_id}, source.org_id):
            raise SourceNotFound

    async def _find(
        self, session: AsyncSession, source_id: UUID, *, org_id: UUID, lock: bool = False
    ) -> KnowledgeSource:
        source = await repository.find_source(session, source_id, org_id=org_id, lock=lock)
        if source is None:
            raise SourceNotFound
        return source


def _mark_failed(source: KnowledgeSource, error_code: str, message: str, *, cause: str) -> None:
    _log.error("source_buried", source_id=str(source.id), stage=source.stage, cause=cause)
    source.status, source.stage = "failed", "done"
    source.error_code, source.error_message = error_code, message


async def _kept(session: AsyncSession, once: Once[Upload], upload: Upload) -> Upload:
    await once.keep(session, upload)
    return upload


def _require_usable(source: KnowledgeSource, principal: Principal) -> None:
    """The material of a persona that an API key is not confined to is as unknown to it."""
    if not principal.may_use(source.persona_id):
        raise SourceNotFound


def _key_of(source: KnowledgeSource) -> BlobKey:
    return BlobKey(source.org_id, source.sha256)


def _event(event_type: str, principal: Principal, source: KnowledgeSource) -> NewEvent:
    return NewEvent(
        org_id=principal.org_id,
        event_type=event_type,
        user_id=principal.user_id,
        persona_id=source.persona_id,
        payload={"source_id": str(source.id), "type": source.type, "file_size": source.file_size},
    )
