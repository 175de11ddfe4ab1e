"""Knowledge put together from its parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bwenge.analytics.contract import EventRecorder
from bwenge.auth.contract import Members, Tenants
from bwenge.kit.blobs.store import BlobStore
from bwenge.kit.db import Database
from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.jobs.standing import JobOverview
from bwenge.knowledge import file_routes, routes, worker_routes
from bwenge.knowledge.contract import PersonaAccess
from bwenge.knowledge.ingestion import SourceIngestion
from bwenge.knowledge.links import SignedSourceLinks
from bwenge.knowledge.parsing.sandbox import ExtractionLimits
from bwenge.knowledge.removal import SourceRemoval
from bwenge.knowledge.search import HybridSearch
from bwenge.knowledge.service import SourceService
from bwenge.knowledge.tasks import job_kinds
from bwenge.payments.contract import Quotas
from bwenge.providers.embedding.base import Embedder

ROUTERS: Final = (routes.router, file_routes.router, worker_routes.router)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the feature asks of the rest of the platform."""

    personas: PersonaAccess
    members: Members
    tenants: Tenants
    events: EventRecorder
    quotas: Quotas


@dataclass(frozen=True)
class KnowledgeFeature:
    sources: SourceService
    ingestion: SourceIngestion
    removal: SourceRemoval
    search: HybridSearch
    links: SignedSourceLinks
    workers: JobOverview
    job_kinds: tuple[JobKind, ...]

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for."""
        return self.sources, self.search, self.links, self.workers


def build(
    database: Database,
    blobs: BlobStore,
    embedder: Embedder,
    *,
    neighbours: Neighbours,
    link_key: bytes,
    work_dir: Path,
) -> KnowledgeFeature:
    sources = SourceService(
        database,
        blobs,
        personas=neighbours.personas,
        members=neighbours.members,
        tenants=neighbours.tenants,
        events=neighbours.events,
        quotas=neighbours.quotas,
    )
    ingestion = SourceIngestion(database, blobs, embedder, work_dir=work_dir, limits=ExtractionLimits())
    removal = SourceRemoval(database, blobs)
    return KnowledgeFeature(
        sources=sources,
        ingestion=ingestion,
        removal=removal,
        search=HybridSearch(database, embedder),
        links=SignedSourceLinks(link_key, personas=neighbours.personas),
        workers=JobOverview(database),
        job_kinds=tuple(job_kinds(ingestion, removal, sources)),
    )
