"""What an organisation says of itself."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from zoneinfo import available_timezones

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import member_queries as queries
from bwenge.auth.contract import AuditEntry, AuditLog
from bwenge.auth.models import Organization
from bwenge.kit.identity import Principal

_NO_PLACES: Final = frozenset({"Factory", "localtime", "posixrules"})
"""Files among the zones of an operating system that name no zone of IANA's."""


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_PLACES)


def require_time_zone(name: str) -> str:
    """The name, if it is one of IANA's; raises ValueError."""
    if name not in _time_zones():
        raise ValueError("this is no IANA time zone, such as Africa/Kigali")
    return name


class Organizations:
    def __init__(self, *, audit: AuditLog) -> None:
        self._audit = audit

    async def get(self, session: AsyncSession, principal: Principal) -> Organization:
        """The caller's own."""
        return await queries.get_organization(session, principal.org_id)

    async def update(self, session: AsyncSession, principal: Principal, changes: Mapping[str, Any]) -> Organization:
        """Set the given ones of `name`, `time_zone` and `language`."""
        organization = await self.get(session, principal)
        changed = {field for field, value in changes.items() if getattr(organization, field) != value}
        for field in changed:
            setattr(organization, field, changes[field])
        if changed:
            await session.flush()
            entry = AuditEntry.by(
                principal, "organization.changed", target=("organization", organization.id), fields=sorted(changed)
            )
            await self._audit.record(session, entry)
        return organization
