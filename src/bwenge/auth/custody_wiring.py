"""Handing organisations over and erasing them, put together from its parts."""

from dataclasses import dataclass
from pathlib import Path

from bwenge.auth.contract import AuditLog
from bwenge.auth.custody_tasks import job_kinds
from bwenge.auth.erasure import OrganisationErasure
from bwenge.auth.exports import OrganisationExports
from bwenge.auth.tombstones import TombstoneFile
from bwenge.kit.blobs.store import BlobStore
from bwenge.kit.db import Database
from bwenge.kit.jobs.kinds import JobKind
from bwenge.kit.signing import SignedPaths, Signer
from bwenge.kit.tenant_data.catalogue import TenantCatalogue


@dataclass(frozen=True, slots=True)
class CustodyFeature:
    """Works on every feature's tables, which it knows by the catalogue alone."""

    exports: OrganisationExports
    erasure: OrganisationErasure
    paths: SignedPaths
    job_kinds: tuple[JobKind, ...]

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for, those of jobs too."""
        return self.exports, self.erasure, self.paths


def build(
    database: Database,
    blobs: BlobStore,
    *,
    audit: AuditLog,
    catalogue: TenantCatalogue,
    link_key: bytes,
    tombstones: Path,
    work_dir: Path,
) -> CustodyFeature:
    """Wire the feature; `tombstones` is the file that must outlive a database which is restored."""
    exports = OrganisationExports(database, blobs, audit=audit, catalogue=catalogue, work_dir=work_dir)
    erasure = OrganisationErasure(
        database, blobs, audit=audit, catalogue=catalogue, tombstones=TombstoneFile(tombstones)
    )
    return CustodyFeature(
        exports=exports,
        erasure=erasure,
        paths=SignedPaths(Signer(link_key)),
        job_kinds=tuple(job_kinds(exports, erasure)),
    )
