"""API keys: each acts for the member who made it, in a role of at most theirs, until it is deleted or expires."""

import secrets
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import api_key_queries
from bwenge.auth.contract import AuditEntry, AuditLog, PersonaDirectory
from bwenge.auth.models import ApiKey, User
from bwenge.auth.opaque_tokens import hash_token, new_token
from bwenge.auth.tokens import Clock, utc_now
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import Forbidden, Invalid, NotFound, Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest

USE_NOTED_EVERY: Final = timedelta(minutes=1)

_BEGINNING: Final = "bwk_"
_PREFIX_CHARACTERS: Final = 8
_PREFIX_ALPHABET: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a new key shall be.

    Attributes:
        persona_ids: The personas that it is confined to; None means all.
        expires_at: None means never.
    """

    name: str
    role: Role
    persona_ids: Sequence[UUID] | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key, in clear this once."""

    key: str
    record: ApiKey


class ApiKeys:
    """Implements `bwenge.kit.identity.KeyVerifier`."""

    prefix = _BEGINNING

    def __init__(
        self, database: Database, *, personas: PersonaDirectory, audit: AuditLog, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._personas = personas
        self._audit = audit
        self._clock = clock

    async def make(self, session: AsyncSession, maker: Principal, request: KeyRequest) -> MadeKey:
        """A key of the maker's.

        Raises:
            Forbidden: Its role is above the maker's own.
            Invalid: It would have expired already, or a persona is not one of the organisation's.
        """
        if not maker.role.at_least(request.role):
            raise Forbidden("No key has a role above its maker's own")
        if request.expires_at is not None and request.expires_at <= self._clock():
            raise Invalid(errors=[{"field": "expires_at", "code": "past", "message": "this time is over"}])
        if request.persona_ids is not None:
            await self._require_personas(session, request.persona_ids, org_id=maker.org_id)
        prefix = _BEGINNING + "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(_PREFIX_CHARACTERS))
        key = f"{prefix}_{new_token()}"
        record = ApiKey(
            id=new_id(),
            org_id=maker.org_id,
            created_by=maker.user_id,
            name=request.name,
            role=request.role.value,
            prefix=prefix,
            key_hash=hash_token(key),
            persona_ids=None if request.persona_ids is None else list(dict.fromkeys(request.persona_ids)),
            expires_at=request.expires_at,
        )
        await api_key_queries.add(session, record)
        await self._audit.record(session, _entry(maker, "api_key.created", record))
        return MadeKey(key, record)

    async def list_page(self, session: AsyncSession, org_id: UUID, *, page: PageRequest) -> Sequence[ApiKey]:
        """Expired ones too; newest first, one more than the page holds where there are more."""
        return await api_key_queries.list_page(session, org_id, page=page)

    async def delete(self, session: AsyncSession, principal: Principal, key_id: UUID) -> None:
        """From the commit on the key is as unknown. Raises `NotFound`."""
        record = await api_key_queries.remove(session, key_id, org_id=principal.org_id)
        if record is None:
            raise NotFound
        await self._audit.record(session, _entry(principal, "api_key.deleted", record))

    async def verify_key(self, key: str) -> Principal:
        """Who the key speaks for. Its use is noted in the same short unit of work, before the caller's own begins."""
        now = self._clock()
        async with self._database.unit_of_work(PLATFORM) as session:
            found = await api_key_queries.find_live(session, hash_token(key), at=now)
            if found is None:
                raise Unauthenticated
            record, maker = found
            stale_since = now - USE_NOTED_EVERY
            if record.last_used_at is None or record.last_used_at <= stale_since:
                await api_key_queries.mark_used(session, record.id, at=now, unless_since=stale_since)
        return Principal(
            user_id=maker.id,
            org_id=record.org_id,
            role=_lower(Role(record.role), Role(maker.role)),
            key_id=record.id,
            confined_to=None if record.persona_ids is None else frozenset(record.persona_ids),
        )

    async def require_live(self, session: AsyncSession, principal: Principal, *, maker: User) -> None:
        """Raise `Unauthenticated` where the key that speaks was deleted, has expired, or outranks its maker by now."""
        if principal.key_id is None or not Role(maker.role).at_least(principal.role):
            raise Unauthenticated
        if not await api_key_queries.is_live(session, principal.key_id, org_id=principal.org_id, at=self._clock()):
            raise Unauthenticated

    async def _require_personas(self, session: AsyncSession, persona_ids: Collection[UUID], *, org_id: UUID) -> None:
        existing = await self._personas.existing(session, persona_ids, org_id)
        findings = [
            {"field": f"persona_ids.{position}", "code": "unknown", "message": "there is no such persona here"}
            for position, persona_id in enumerate(persona_ids)
            if persona_id not in existing
        ]
        if findings:
            raise Invalid(errors=findings)


def _lower(one: Role, other: Role) -> Role:
    return one if other.at_least(one) else other


def _entry(principal: Principal, action: str, record: ApiKey) -> AuditEntry:
    persona_ids = None if record.persona_ids is None else [str(persona_id) for persona_id in record.persona_ids]
    return AuditEntry.by(
        principal,
        action,
        target=("api_key", record.id),
        name=record.name,
        prefix=record.prefix,
        role=record.role,
        persona_ids=persona_ids,
    )
