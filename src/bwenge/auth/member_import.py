"""Whole classes at once: accounts from a list, with passwords that are shown once."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import member_queries as queries
from bwenge.auth import repository
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.errors import EmailTaken, SeatsExhausted, UsernameTaken
from bwenge.auth.models import User
from bwenge.auth.passwords import Passwords
from bwenge.auth.rosters import RosterRow, read_roster
from bwenge.auth.seats import Seats
from bwenge.kit.db import PLATFORM, Database, savepoint
from bwenge.kit.errors import BwengeError, Invalid
from bwenge.kit.idempotency.once import EVERY_TIME, Once
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id

_log = structlog.get_logger(__name__)

_ALPHABET: Final = "23456789abcdefghijkmnpqrstuvwxyz"
_LETTERS: Final = 16
"""Of 32 each, none of which is taken for another on paper: 80 bits."""


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What became of a row: a member with a password, or a refusal."""

    row: RosterRow
    user_id: UUID | None = None
    password: str | None = None
    refusal: BwengeError | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: RosterRow
    password: str
    password_hash: str


class MemberImport:
    def __init__(
        self, database: Database, *, passwords: Passwords, members: Members, seats: Seats, audit: AuditLog
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._members = members
        self._seats = seats
        self._audit = audit

    async def run(
        self, principal: Principal, content: bytes, *, once: Once[list[ImportedRow]] = EVERY_TIME
    ) -> list[ImportedRow]:
        """Make a learner of each row that can be one; classes that are not there yet become the importer's.

        Raises:
            Invalid, RosterTooLong: The list as a whole cannot be read; nothing was made.
        """
        rows = read_roster(content)
        async with self._database.unit_of_work(principal.org_id) as session:
            # Before a thousand passwords are hashed again.
            await once.claim(session)
        refusals = await self._foresee(principal, rows)
        # One after the other, so that people who sign in meanwhile wait for one hash and not for a thousand.
        candidates = [await self._candidate(row) for row in rows if row.number not in refusals]
        results = {row.number: ImportedRow(row, refusal=refusals[row.number]) for row in rows if row.number in refusals}
        async with self._database.unit_of_work(principal.org_id) as session:
            await once.claim(session)
            free = await self._seats.free(session, principal.org_id)
            await self._members.require_active(session, principal)
            results |= await self._add_all(session, principal, candidates, free=free)
            created = sum(result.user_id is not None for result in results.values())
            entry = AuditEntry.by(principal, "members.imported", created=created, refused=len(results) - created)
            await self._audit.record(session, entry)
            imported = [results[row.number] for row in rows]
            await once.keep(session, imported)
        _log.info("members_imported", org_id=str(principal.org_id), created=created)
        return imported

    async def _foresee(self, principal: Principal, rows: Sequence[RosterRow]) -> dict[int, BwengeError]:
        """Refusals by row that are certain, or as good as, before anything is hashed: what bounds the hashing."""
        async with self._database.unit_of_work(PLATFORM) as session:
            free = await self._seats.free(session, principal.org_id)
            identifiers = {value for row in rows for value in (row.email, row.username) if value is not None}
            taken = await queries.taken_identifiers(session, identifiers)
        refusals: dict[int, BwengeError] = {}
        for row in rows:
            refusal = _refusal(row, taken)
            if refusal is None and free is not None:
                refusal = SeatsExhausted() if free == 0 else None
                free = max(0, free - 1)
            if refusal is None:
                taken |= {value.lower() for value in (row.email, row.username) if value is not None}
            else:
                refusals[row.number] = refusal
        return refusals

    async def _candidate(self, row: RosterRow) -> _Candidate:
        password = new_password()
        return _Candidate(row, password, await self._passwords.hash(password))

    async def _add_all(
        self, session: AsyncSession, principal: Principal, candidates: Sequence[_Candidate], *, free: int | None
    ) -> dict[int, ImportedRow]:
        """In an organisation that the transaction has locked, with `free` seats."""
        names = {candidate.row.group for candidate in candidates if candidate.row.group is not None}
        groups = await queries.groups_by_name(session, names, org_id=principal.org_id)
        results: dict[int, ImportedRow] = {}
        for candidate in candidates:
            row = candidate.row
            if free == 0:
                results[row.number] = ImportedRow(row, refusal=SeatsExhausted())
                continue
            try:
                async with savepoint(session):
                    user_id = await _add(session, principal, candidate, groups)
            except (EmailTaken, UsernameTaken) as refusal:
                results[row.number] = ImportedRow(row, refusal=refusal)
                continue
            free = None if free is None else free - 1
            results[row.number] = ImportedRow(row, user_id, candidate.password)
        return results


async def _add(session: AsyncSession, principal: Principal, candidate: _Candidate, groups: dict[str, UUID]) -> UUID:
    """The member, and the class where there is none of this name; the account comes first, for it may be refused."""
    row = candidate.row
    user = User(
        id=new_id(),
        org_id=principal.org_id,
        name=row.name,
        email=row.email,
        username=row.username,
        password_hash=candidate.password_hash,
        role=Role.USER.value,
    )
    await repository.add_user(session, user)
    if row.group is not None:
        key = row.group.casefold()
        if key not in groups:
            groups[key] = await queries.add_group(
                session, row.group, org_id=principal.org_id, owner_id=principal.user_id
            )
        await queries.add_to_group(session, groups[key], user.id, org_id=principal.org_id)
    return user.id


def new_password() -> str:
    """Read from paper, typed once: letters and digits that look like no other, in fours."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    return "-".join(letters[start : start + 4] for start in range(0, _LETTERS, 4))


def _refusal(row: RosterRow, taken: set[str]) -> BwengeError | None:
    if row.refusal is not None:
        return Invalid(row.refusal)
    if row.email is not None and row.email in taken:
        return EmailTaken()
    return UsernameTaken() if row.username is not None and row.username.lower() in taken else None
