"""Who may touch which table: the one reviewed list of grants and row-level security.

Applied after every migration, so the list is the whole truth: what is not granted here is not granted. A table with a
tenant column has row-level security enabled and forced; the application's role sees the rows of the tenant that the
transaction named, and the platform's role sees all rows of the tables granted to it. The steward's role reads and
deletes the rows of the tenant that the transaction named, in each tenant table alike, since an export and an erasure
leave none out. The owner has no policy, so even a stray owner's session sees no tenant's rows.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from bwenge.kit.db import APP_ROLE, PLATFORM_ROLE, STEWARD_ROLE, TENANT_SETTING

APPEND: Final = "SELECT, INSERT"
WRITE: Final = "SELECT, INSERT, UPDATE"
ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
STEWARD: Final = "SELECT, DELETE"
"""Of the steward's role, on each table that has a tenant."""


@dataclass(frozen=True)
class Access:
    """Privileges on one table.

    Attributes:
        tenant: Its tenant column; None marks a table without tenants.
        app_reads: Columns that the application may read where it may not read the table; its policy needs the tenant's.
    """

    app: str | None
    platform: str | None
    tenant: str | None = "org_id"
    app_reads: tuple[str, ...] = ()


ACCESS: Final[dict[str, Access]] = {
    "analytics_events": Access(app=APPEND, platform=None),
    "api_keys": Access(app="SELECT, INSERT, DELETE", platform="SELECT, UPDATE"),
    "audit_log": Access(app=APPEND, platform=APPEND),
    "blob_references": Access(app=ALL, platform=ALL),
    "blobs": Access(app=ALL, platform=ALL),
    "chunk_vectors": Access(app=ALL, platform=None),
    "conversations": Access(app=ALL, platform=WRITE),
    "erased_organizations": Access(app=None, platform=WRITE, tenant=None),
    "group_members": Access(app=ALL, platform=ALL),
    "group_personas": Access(app=ALL, platform=ALL),
    "groups": Access(app=ALL, platform=ALL),
    "idempotency_keys": Access(app=ALL, platform=ALL),
    "invitations": Access(app=ALL, platform=ALL),
    "jobs": Access(app=APPEND, platform=ALL),
    "job_schedules": Access(app=None, platform=WRITE, tenant=None),
    "job_workers": Access(app=None, platform=ALL, tenant=None),
    "join_links": Access(app=ALL, platform=ALL),
    "knowledge_chunks": Access(app=ALL, platform=None),
    "knowledge_sources": Access(app=ALL, platform=WRITE),
    "login_failures": Access(app=None, platform=ALL, tenant=None),
    "messages": Access(app=ALL, platform=APPEND),
    "organizations": Access(app=WRITE, platform=ALL, tenant="id"),
    "password_reset_codes": Access(app=ALL, platform=ALL),
    "password_reset_links": Access(app=None, platform=ALL),
    "personas": Access(app=WRITE, platform=None),
    "postings": Access(app=ALL, platform=None),
    "quota_reservations": Access(app=WRITE, platform="SELECT, UPDATE"),
    # Of a session, the application learns that it was ended, and no token's hash.
    "refresh_tokens": Access(app=None, platform=ALL, app_reads=("family_id", "org_id", "revoked_at")),
    "subscriptions": Access(app="SELECT", platform=WRITE),
    "turns": Access(app=ALL, platform=WRITE),
    "usage_quotas": Access(app=WRITE, platform="SELECT, UPDATE"),
    "users": Access(app=WRITE, platform=WRITE),
}

_TENANT: Final = f"nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"


def apply_access(connection: Connection) -> None:
    """Make the grants and policies of the database equal to `ACCESS`. Runs as the owner, inside a transaction."""
    for table, access in ACCESS.items():
        _apply(connection, table, access)
    # Processes that do not migrate ask whether it was done.
    connection.execute(text(f"GRANT SELECT ON alembic_version TO {PLATFORM_ROLE}"))


def _apply(connection: Connection, table: str, access: Access) -> None:
    statements = [f"REVOKE ALL ON {table} FROM {APP_ROLE}, {PLATFORM_ROLE}, {STEWARD_ROLE}"]
    for role, privileges in ((APP_ROLE, access.app), (PLATFORM_ROLE, access.platform)):
        if privileges is not None:
            statements.append(f"GRANT {privileges} ON {table} TO {role}")
    if access.app_reads:
        statements.append(f"GRANT SELECT ({', '.join(access.app_reads)}) ON {table} TO {APP_ROLE}")
    if access.tenant is not None:
        rule = f"{access.tenant} = {_TENANT}"
        statements += [
            f"GRANT {STEWARD} ON {table} TO {STEWARD_ROLE}",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS tenant ON {table}",
            f"CREATE POLICY tenant ON {table} TO {APP_ROLE}, {STEWARD_ROLE} USING ({rule}) WITH CHECK ({rule})",
            f"DROP POLICY IF EXISTS platform ON {table}",
            f"CREATE POLICY platform ON {table} TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)",
        ]
    for statement in statements:
        connection.execute(text(statement))
