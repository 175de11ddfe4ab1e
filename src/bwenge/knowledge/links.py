"""Signed addresses of sources: whoever holds one may open that file until it expires."""

import time
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.signing import Signer
from bwenge.knowledge import repository
from bwenge.knowledge.contract import LocatorFields, PersonaAccess

LIFETIME_SECONDS: Final = 3600


class SignedSourceLinks:
    """Implements `CitedSources` by HMAC-SHA256 over tenant, source and expiry."""

    def __init__(self, key: bytes, *, personas: PersonaAccess, clock: Callable[[], float] = time.time) -> None:
        self._personas = personas
        self._signer = Signer(key, clock=clock)

    def source_url(self, source_id: UUID, org_id: UUID, *, locator: LocatorFields) -> str:
        """A path on this platform, with the fragment that opens the place: `#page=`, `#t=`."""
        signed = self._signer.sign(_message(source_id, org_id), lifetime_seconds=LIFETIME_SECONDS)
        query = urlencode({"org": str(org_id), "expires": signed.expires, "signature": signed.signature})
        return f"/knowledge/{source_id}/file?{query}{_fragment(locator)}"

    async def openable(self, session: AsyncSession, source_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        personas = await repository.personas_of(session, source_ids, org_id=org_id)
        existing = await self._personas.existing(session, frozenset(personas.values()), org_id)
        return frozenset(source_id for source_id, persona_id in personas.items() if persona_id in existing)

    def verify(self, source_id: UUID, *, org_id: UUID, expires: int, signature: str) -> None:
        """Raise `InvalidSignature` unless this platform signed the address and its time has not passed."""
        self._signer.verify(_message(source_id, org_id), expires=expires, signature=signature)


def _message(source_id: UUID, org_id: UUID) -> str:
    return f"source\n{org_id}\n{source_id}"


def _fragment(locator: LocatorFields) -> str:
    if "page" in locator:
        return f"#page={locator['page']}"
    if "start_time" in locator:
        return f"#t={locator['start_time']:g}"
    return ""
