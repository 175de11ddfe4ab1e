"""Whole classes at once: accounts from a list, with passwords that are shown once."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import invitation_queries, member_queries, repository
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.errors import EmailTaken, SeatsExhausted, UsernameTaken
from bwenge.auth.models import User
from bwenge.auth.passwords import Passwords
from bwenge.auth.rosters import RosterRow, read_roster
from bwenge.auth.seats import Seats
from bwenge.auth.tokens import Clock
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


class MemberImport:
    def __init__(
        self, database: Database, *, passwords: Passwords, members: Members, seats: Seats, audit: AuditLog, clock: Clock
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._members = members
        self._seats = seats
        self._audit = audit
        self._clock = clock

    async def run(
        self, principal: Principal, content: bytes, *, once: Once[list[ImportedRow]] = EVERY_TIME
    ) -> list[ImportedRow]:
        """Make a learner of each row that can be one; classes that are not there yet become the importer's.

        Raises:
            Invalid, RosterTooLong: The list as a whole cannot be read; nothing was made.
        """
        rows = read_roster(content)
        # Whether somebody elsewhere has an address is known to the platform's role alone.
        async with self._database.unit_of_work(PLATFORM) as session:
            await once.claim(session)
            free = await self._seats.free(session, principal.org_id)
            await self._members.require_active(session, principal)
            results = await self._foresee(session, principal, rows, free=free)
            accepted = [row for row in rows if row.number not in results]
            passwords = [new_password() for _ in accepted]
            hashes = await self._passwords.hash_generated(passwords)
            results |= await _add_all(session, principal, zip(accepted, passwords, hashes, strict=True))
            created = sum(result.user_id is not None for result in results.values())
            entry = AuditEntry.by(principal, "members.imported", created=created, refused=len(results) - created)
            await self._audit.record(session, entry)
            imported = [results[row.number] for row in rows]
            await once.keep(session, imported)
        _log.info("members_imported", org_id=str(principal.org_id), created=created)
        return imported

    async def _foresee(
        self, session: AsyncSession, principal: Principal, rows: Sequence[RosterRow], *, free: int | None
    ) -> dict[int, ImportedRow]:
        """The refusals by row, with so many free seats; who was invited has one, which the account takes over."""
        now = self._clock()
        emails = {row.email for row in rows if row.email is not None}
        invited = await invitation_queries.invited(session, emails, org_id=principal.org_id, now=now)
        taken = await member_queries.taken_identifiers(session, _identifiers(rows))
        refusals: dict[int, ImportedRow] = {}
        for row in rows:
            needs_seat = row.email not in invited
            # Before anything is told of accounts elsewhere: without a seat nobody learns who has one.
            if row.refusal is not None:
                refusal: BwengeError | None = Invalid(row.refusal)
            elif needs_seat and free == 0:
                refusal = SeatsExhausted()
            else:
                refusal = _taken(row, taken)
            if refusal is not None:
                refusals[row.number] = ImportedRow(row, refusal=refusal)
                continue
            taken |= _identifiers([row])
            if needs_seat and free is not None:
                free -= 1
        return refusals


async def _add_all(
    session: AsyncSession, principal: Principal, accepted: Iterable[tuple[RosterRow, str, str]]
) -> dict[int, ImportedRow]:
    """In an organisation that the transaction has locked. By name, as every import does: so no two wait in a circle."""
    ordered = sorted(accepted, key=lambda row_and_password: sorted(_identifiers([row_and_password[0]])))
    names = {row.group for row, _, _ in ordered if row.group is not None}
    groups = await member_queries.groups_by_name(session, names, org_id=principal.org_id)
    results: dict[int, ImportedRow] = {}
    for row, password, password_hash in ordered:
        try:
            async with savepoint(session):
                user_id = await _add(session, principal, row, password_hash=password_hash, groups=groups)
        except (EmailTaken, UsernameTaken) as refusal:  # Of somebody who came at this very moment.
            results[row.number] = ImportedRow(row, refusal=refusal)
        else:
            results[row.number] = ImportedRow(row, user_id, password)
    return results


async def _add(
    session: AsyncSession, principal: Principal, row: RosterRow, *, password_hash: str, groups: dict[str, UUID]
) -> UUID:
    """The member, and the class where there is none of this name; the account comes first, for it may be refused."""
    user = User(
        id=new_id(),
        org_id=principal.org_id,
        name=row.name,
        email=row.email,
        username=row.username,
        password_hash=password_hash,
        role=Role.USER.value,
    )
    await repository.add_user(session, user)
    if row.email is not None:
        await invitation_queries.remove_of(session, row.email, org_id=principal.org_id)
    if row.group is not None:
        key = row.group.casefold()
        if key not in groups:
            groups[key] = await member_queries.add_group(
                session, row.group, org_id=principal.org_id, owner_id=principal.user_id
            )
        await member_queries.add_to_group(session, groups[key], user.id, org_id=principal.org_id)
    return user.id


def new_password() -> str:
    """Read from paper, typed once: letters and digits that look like no other, in fours."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    return "-".join(letters[start : start + 4] for start in range(0, _LETTERS, 4))


def _identifiers(rows: Iterable[RosterRow]) -> set[str]:
    """In lower case, as they are compared."""
    return {value.lower() for row in rows for value in (row.email, row.username) if value is not None}


def _taken(row: RosterRow, taken: set[str]) -> BwengeError | None:
    if row.email is not None and row.email in taken:
        return EmailTaken()
    return UsernameTaken() if row.username is not None and row.username.lower() in taken else None
