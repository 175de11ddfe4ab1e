"""From the job that makes a source searchable by keyword to the one that embeds it."""

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.jobs.queue import enqueue
from bwenge.knowledge import jobs
from bwenge.knowledge.models import KnowledgeSource
from bwenge.knowledge.stages import STAGE_SHARE


async def hand_over(session: AsyncSession, source: KnowledgeSource) -> None:
    """Ask for the embedding of a locked source that is searchable by keyword, and count its attempts from the start.

    Nothing changes where that was asked for and is still to be done. While that waits, the stage is the embedding's.
    """
    if await enqueue(session, jobs.embed(source.id, org_id=source.org_id)) is None:
        return
    source.run += 1
    source.status, source.attempts = "processing", 0
    source.stage, source.progress, source.stage_started_at = "embedding", STAGE_SHARE["embedding"][0], None
