"""Every query of an export that is not a whole table: the organisation's name and its files."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import Organization
from bwenge.kit.blobs.models import BlobReference, BlobRow
from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.jobs.models import Job
from bwenge.kit.tenant_data.catalogue import TenantCatalogue


@dataclass(frozen=True, slots=True)
class FileUse:
    """A row that speaks of a file, and the name that it knows it by."""

    table: str
    row: str
    file_name: str


async def name_of(session: AsyncSession, org_id: UUID) -> str | None:
    return await session.scalar(select(Organization.name).where(Organization.id == org_id))


async def stored_files(session: AsyncSession, org_id: UUID, *, except_of: str) -> Sequence[tuple[BlobKey, int]]:
    """Keys and sizes, without what jobs of the kind `except_of` stored."""
    made = (
        select(BlobReference.sha256)
        .join(Job, Job.id == BlobReference.owner_id)
        .where(BlobReference.org_id == org_id, Job.org_id == org_id, Job.kind == except_of)
    )
    query = select(BlobRow.sha256, BlobRow.size).where(
        BlobRow.org_id == org_id, BlobRow.state == "present", BlobRow.sha256.not_in(made)
    )
    found = await session.execute(query.order_by(BlobRow.sha256))
    return [(BlobKey(org_id, sha256), size) for sha256, size in found]


async def uses_of_files(session: AsyncSession, org_id: UUID, catalogue: TenantCatalogue) -> dict[str, list[FileUse]]:
    """By SHA-256, from every table that has both `sha256` and `file_name`."""
    uses: dict[str, list[FileUse]] = defaultdict(list)
    for table in catalogue:
        columns = table.table.columns
        if {"sha256", "file_name"} <= set(columns.keys()):
            key: list[Any] = list(table.table.primary_key.columns)
            query = select(columns["sha256"], columns["file_name"], *key).where(table.tenant_column == org_id)
            for sha256, file_name, *row in await session.execute(query.order_by(*key)):
                uses[sha256].append(FileUse(table.name, "/".join(map(str, row)), file_name))
    return uses
