"""Who does the jobs of knowledge; their requests stand in `jobs`."""

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.knowledge import jobs
from bwenge.knowledge.ingestion import SourceIngestion
from bwenge.knowledge.removal import SourceRemoval
from bwenge.knowledge.service import SourceService


def job_kinds(ingestion: SourceIngestion, removal: SourceRemoval, service: SourceService) -> list[JobKind]:
    async def ingest(job: ClaimedJob) -> None:
        await ingestion.ingest(jobs.source_id_of(job), org_id=jobs.org_id_of(job), attempt=job.attempt)

    async def embed(job: ClaimedJob) -> None:
        await ingestion.embed(jobs.source_id_of(job), org_id=jobs.org_id_of(job), attempt=job.attempt)

    async def on_ingest_dead(session: AsyncSession, job: ClaimedJob, code: str) -> None:
        await service.bury(session, jobs.source_id_of(job), org_id=jobs.org_id_of(job), code=code)

    async def on_embed_dead(session: AsyncSession, job: ClaimedJob, code: str) -> None:
        await service.bury_embedding(session, jobs.source_id_of(job), org_id=jobs.org_id_of(job), code=code)

    async def purge(job: ClaimedJob) -> None:
        await removal.purge(jobs.source_id_of(job), jobs.key_of(job))

    async def sweep_file(job: ClaimedJob) -> None:
        await removal.sweep_file(jobs.key_of(job))

    async def remove_file(job: ClaimedJob) -> None:
        await removal.remove_file(jobs.key_of(job))

    return [
        JobKind(jobs.INGEST, ingest, on_dead=on_ingest_dead),
        JobKind(jobs.EMBED, embed, on_dead=on_embed_dead),
        JobKind(jobs.PURGE, purge),
        JobKind(jobs.SWEEP_FILE, sweep_file),
        JobKind(jobs.REMOVE_FILE, remove_file),
    ]
