"""Answers to requests that bore a key: kept for a day, in the transaction of what they tell of.

A claim is an advisory lock of the transaction and leaves no row, so a unit of work that ends without an answer, be it
rolled back or committed, has nothing to undo, and a twin goes on the moment that it has ended.
"""

import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from psycopg.errors import LockNotAvailable
from sqlalchemy import and_, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.db import savepoint
from bwenge.kit.idempotency.errors import IdempotencyInProgress, IdempotencyKeyReused
from bwenge.kit.idempotency.models import IdempotencyKey

LIFETIME: Final = timedelta(hours=24)
WAIT: Final = timedelta(seconds=5)
"""How long a twin waits for the one that is being worked on."""

SWEPT_AT_ONCE: Final = 20
"""Expired answers that go whenever one is kept: more than come, so that they do not pile up."""

_NONCE_BYTES: Final = 12
_PRIMARY_KEY: Final = (IdempotencyKey.owner, IdempotencyKey.route, IdempotencyKey.key)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire; both parts may hold tokens."""

    status: int
    body: bytes = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that bears a key, without anything in it that could be read or guessed.

    Attributes:
        org_id: The caller's tenant, to which the answer belongs; None where the caller has none yet.
        lock: The advisory lock that twins contend for. A foreign request with the same one is merely waited for.
    """

    owner: bytes
    route: str
    key: str
    org_id: UUID | None
    fingerprint: bytes
    lock: int


class KeptAnswers:
    """The answers of the last 24 hours.

    Args:
        secret: At least 32 bytes for this purpose alone; without the same one nothing that was kept is found again.
        wait: How long a claim waits for a twin's transaction; it holds its own transaction's connection meanwhile.
    """

    def __init__(self, secret: bytes, *, wait: timedelta = WAIT) -> None:
        self._hash_key = hmac.digest(secret, b"hashes", "sha256")
        self._cipher = ChaCha20Poly1305(hmac.digest(secret, b"answers", "sha256"))
        self._wait = wait

    def keyed(self, *, whose: str, org_id: UUID | None, route: str, key: str, content: bytes) -> KeyedRequest:
        """The request of `whose` to `route`; `content` is all that makes it another request where it differs."""
        owner = self._hash("owner", whose.encode())
        identity = b"\0".join((owner, route.encode(), key.encode()))
        return KeyedRequest(
            owner=owner,
            route=route,
            key=key,
            org_id=org_id,
            fingerprint=self._hash("content", content),
            lock=int.from_bytes(self._hash("lock", identity)[:8], signed=True),
        )

    async def claim(self, session: AsyncSession, request: KeyedRequest) -> Answer | None:
        """Keep twins waiting until the transaction ends; the answer, where the request was answered before.

        It is found by who asks, whatever tenant it belongs to; a tenant's own transaction sees that tenant's alone.

        Raises:
            IdempotencyKeyReused: The key came with other content.
            IdempotencyInProgress: A twin has not ended within the wait. The session stays usable.
        """
        await self._lock(session, request)
        found = await session.execute(
            select(IdempotencyKey.fingerprint, IdempotencyKey.status, IdempotencyKey.answer).where(
                tuple_(*_PRIMARY_KEY) == (request.owner, request.route, request.key),
                IdempotencyKey.expires_at > func.clock_timestamp(),
            )
        )
        kept = found.one_or_none()
        if kept is None:
            return None
        if kept.fingerprint != request.fingerprint:
            raise IdempotencyKeyReused
        return self._open(request, kept.status, kept.answer)

    async def keep(
        self, session: AsyncSession, request: KeyedRequest, answer: Answer, *, org_id: UUID | None = None
    ) -> None:
        """Write the answer in the transaction of the result.

        It belongs to the caller's tenant, or to that of `org_id`, and goes with it.

        Raises:
            IdempotencyInProgress: An answer is there already, by a twin that this transaction's claim did not exclude.
        """
        values = {
            "org_id": org_id or request.org_id,
            "fingerprint": request.fingerprint,
            "status": answer.status,
            "answer": self._seal(request, answer),
            "expires_at": func.clock_timestamp() + LIFETIME,
        }
        written = await session.execute(
            insert(IdempotencyKey)
            .values(owner=request.owner, route=request.route, key=request.key, **values)
            .on_conflict_do_update(
                index_elements=_PRIMARY_KEY, set_=values, where=IdempotencyKey.expires_at <= func.clock_timestamp()
            )
            .returning(IdempotencyKey.status)
        )
        if written.one_or_none() is None:
            raise IdempotencyInProgress(retry_after=1)
        # After the row of its own, and never waiting: else two that sweep each other's rows would wait in a circle.
        await _sweep(session, request.org_id)

    async def _lock(self, session: AsyncSession, request: KeyedRequest) -> None:
        if await session.scalar(select(func.pg_try_advisory_xact_lock(request.lock))):
            return
        before = await session.scalar(select(func.current_setting("lock_timeout")))
        try:
            # The savepoint takes back the failed statement, and the timeout with it.
            async with savepoint(session):
                await _limit_lock_waits(session, f"{max(1, round(self._wait / timedelta(milliseconds=1)))}ms")
                await session.execute(select(func.pg_advisory_xact_lock(request.lock)))
                await _limit_lock_waits(session, before)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            raise IdempotencyInProgress(retry_after=1) from error

    def _seal(self, request: KeyedRequest, answer: Answer) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        content = json.dumps(list(answer.headers)).encode() + b"\n" + answer.body
        return nonce + self._cipher.encrypt(nonce, content, _bound_to(request, answer.status))

    def _open(self, request: KeyedRequest, status: int, sealed: bytes) -> Answer:
        nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        headers, _, body = self._cipher.decrypt(nonce, content, _bound_to(request, status)).partition(b"\n")
        return Answer(status, body, tuple((name, value) for name, value in json.loads(headers)))

    def _hash(self, purpose: str, content: bytes) -> bytes:
        return hmac.digest(self._hash_key, purpose.encode() + b"\0" + content, "sha256")


def _bound_to(request: KeyedRequest, status: int) -> bytes:
    """What an answer is encrypted for: put into another row, it does not open."""
    identity = (request.owner, request.fingerprint, request.route.encode(), request.key.encode(), str(status).encode())
    return b"\0".join(identity)


async def _limit_lock_waits(session: AsyncSession, limit: Any) -> None:
    await session.execute(select(func.set_config("lock_timeout", limit, True)))


async def _sweep(session: AsyncSession, org_id: UUID | None) -> None:
    """Remove some of the tenant's expired answers or, of a caller without a tenant, of all."""
    is_expired = IdempotencyKey.expires_at <= func.clock_timestamp()
    some = (
        select(*_PRIMARY_KEY)
        .where(is_expired if org_id is None else and_(IdempotencyKey.org_id == org_id, is_expired))
        .order_by(IdempotencyKey.expires_at)
        .limit(SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    await session.execute(delete(IdempotencyKey).where(tuple_(*_PRIMARY_KEY).in_(some)))
