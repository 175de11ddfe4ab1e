"""What is handed over of a tenant and what stays of it: the one reviewed list.

A table with a tenant in `access.ACCESS` is exported, row by row, and erased with its tenant, unless it stands here.
"""

import inspect
from collections.abc import Mapping
from typing import Final

from bwenge.kit.db import Base
from bwenge.kit.tenant_data.catalogue import KeptRecord, TenantCatalogue
from bwenge.migrations.access import ACCESS
from bwenge.migrations.metadata import metadata

SECRETS: Final = frozenset({"jobs.payload"})
"""Columns that are secret though neither their name nor their type says so. A job may carry a link that was mailed."""

DERIVED: Final[Mapping[str, str]] = {
    "chunk_vectors": "computed from the text in knowledge_chunks",
    "postings": "computed from the text in knowledge_chunks",
}
"""Tables that hold nothing of their own, and where the same can be computed from: they are not exported."""

RECORDS: Final[Mapping[str, KeptRecord]] = {}
"""Records that the law wants kept when their tenant is erased (BWENGE_FINANCIAL_RETENTION_YEARS), and how.

The platform's role needs UPDATE on such a table in `access.ACCESS`, to take out whose it was.
"""


def tenant_catalogue() -> TenantCatalogue:
    return TenantCatalogue.of(
        metadata,
        tenants={name: access.tenant for name, access in ACCESS.items() if access.tenant is not None},
        descriptions=_descriptions(),
        secrets=SECRETS,
        derived=DERIVED,
        records=RECORDS,
    )


def _descriptions() -> dict[str, str]:
    """By table, the first sentence of its model's own docstring."""
    documented = {
        mapper.class_.__tablename__: inspect.cleandoc(mapper.class_.__dict__["__doc__"])
        for mapper in Base.registry.mappers
        if mapper.class_.__dict__.get("__doc__")
    }
    return {table: text.partition("\n")[0] for table, text in documented.items()}
