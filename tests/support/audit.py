"""What the audit log holds."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from tests.support.databases import SavepointDatabase


@dataclass(frozen=True)
class Audited:
    action: str
    org_id: str | None
    actor_id: str | None
    target_id: str | None
    detail: dict[str, Any]


async def audited(database: SavepointDatabase, *, action: str | None = None) -> list[Audited]:
    """Of all organisations, oldest first."""
    async with database.superuser() as connection:
        rows = await connection.execute(
            text(
                "SELECT action, org_id::text, actor_id::text, target_id, detail FROM audit_log"
                " WHERE CAST(:action AS text) IS NULL OR action = :action ORDER BY id"
            ),
            {"action": action},
        )
        return [Audited(*row) for row in rows]
