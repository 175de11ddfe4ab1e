"""Who may touch which table: the one reviewed list of grants and row-level security.

Applied after every migration, so the list is the whole truth: what is not granted here is not granted. A table with a
tenant column has row-level security enabled and forced; the application's role sees the rows of the tenant that the
transaction named, and the platform's role sees all rows of the tables granted to it. The owner has no policy, so even
a stray owner's session sees no tenant's rows.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from bwenge.kit.db import APP_ROLE, PLATFORM_ROLE, TENANT_SETTING

APPEND: Final = "SELECT, INSERT"
WRITE: Final = "SELECT, INSERT, UPDATE"
ALL: Final = "SELECT, INSERT, UPDATE, DELETE"


@dataclass(frozen=True)
class Access:
    """Privileges on one table. `tenant` names its tenant column; None marks a table without tenants."""

    app: str | None
    platform: str | None
    tenant: str | None = "org_id"


ACCESS: Final[dict[str, Access]] = {
    "analytics_events": Access(app=APPEND, platform=None),
    "blob_references": Access(app=ALL, platform=ALL),
    "blobs": Access(app=ALL, platform=ALL),
    "chunk_vectors": Access(app=ALL, platform=None),
    "conversations": Access(app=ALL, platform=WRITE),
    "jobs": Access(app=APPEND, platform=ALL),
    "knowledge_chunks": Access(app=ALL, platform=None),
    "knowledge_sources": Access(app=ALL, platform=WRITE),
    "messages": Access(app=ALL, platform=APPEND),
    "organizations": Access(app=WRITE, platform=ALL, tenant="id"),
    "personas": Access(app=WRITE, platform=None),
    "postings": Access(app=ALL, platform=None),
    "refresh_tokens": Access(app=None, platform=ALL),
    "turns": Access(app=ALL, platform=WRITE),
    "users": Access(app=WRITE, platform=WRITE),
}

_TENANT: Final = f"nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"


def apply_access(connection: Connection) -> None:
    """Make the grants and policies of the database equal to `ACCESS`. Runs as the owner, inside a transaction."""
    for table, access in ACCESS.items():
        _apply(connection, table, access)


def _apply(connection: Connection, table: str, access: Access) -> None:
    statements = [f"REVOKE ALL ON {table} FROM {APP_ROLE}, {PLATFORM_ROLE}"]
    for role, privileges in ((APP_ROLE, access.app), (PLATFORM_ROLE, access.platform)):
        if privileges is not None:
            statements.append(f"GRANT {privileges} ON {table} TO {role}")
    if access.tenant is not None:
        rule = f"{access.tenant} = {_TENANT}"
        statements += [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS tenant ON {table}",
            f"CREATE POLICY tenant ON {table} TO {APP_ROLE} USING ({rule}) WITH CHECK ({rule})",
            f"DROP POLICY IF EXISTS platform ON {table}",
            f"CREATE POLICY platform ON {table} TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)",
        ]
    for statement in statements:
        connection.execute(text(statement))
