"""Operators: the platform's staff, outside every organisation."""

from collections.abc import Sequence

from bwenge.auth import operator_queries, recovery_queries, repository
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.identifiers import normalize_email, normalize_name
from bwenge.auth.models import User
from bwenge.auth.operator_queries import OrganizationSummary
from bwenge.auth.password_policy import require_impersonal, require_uncommon
from bwenge.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, Passwords
from bwenge.auth.tokens import Clock
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import OPERATOR, Principal
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest


class Operators:
    """Implements `bwenge.kit.identity.OperatorDenials`."""

    def __init__(
        self, database: Database, *, passwords: Passwords, members: Members, audit: AuditLog, clock: Clock
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._members = members
        self._audit = audit
        self._clock = clock

    async def create(self, email: str, *, name: str, password: str) -> User:
        """An operator's account.

        Raises:
            ValueError: The email address, the name or the length of the password is not one, in a sentence.
            CommonPassword
            EmailTaken: Another account has it.
        """
        if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
            raise ValueError(f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
        operator = User(id=new_id(), name=normalize_name(name), email=normalize_email(email), role=OPERATOR)
        require_uncommon(password, field="password")
        require_impersonal(password, operator, field="password")
        operator.password_hash = await self._passwords.hash(password)
        entry = AuditEntry(None, None, "operator.created", target_type="user", target_id=str(operator.id))
        async with self._database.unit_of_work(PLATFORM) as session:
            await repository.add_user(session, operator)
            await self._audit.record(session, entry)
        return operator

    async def deactivate(self, email: str) -> None:
        """Let an operator in no more, from the commit on. Raises `NotFound` where no active one has this address."""
        async with self._database.unit_of_work(PLATFORM) as session:
            found = await repository.find_user(session, normalize_email(email))
            operator = None if found is None else await repository.lock_user(session, found.id)
            if operator is None or operator.role != OPERATOR or not operator.is_active:
                raise NotFound("No active operator has this email address")
            operator.is_active = False
            await recovery_queries.revoke_sessions(session, operator.id, at=self._clock())
            await recovery_queries.delete_links_and_codes(session, operator.id)
            entry = AuditEntry(None, None, "operator.deactivated", target_type="user", target_id=str(operator.id))
            await self._audit.record(session, entry)

    async def list_organizations(self, *, page: PageRequest, name: str | None) -> Sequence[OrganizationSummary]:
        """As `operator_queries.list_organizations`."""
        async with self._database.unit_of_work(PLATFORM) as session:
            return await operator_queries.list_organizations(session, page=page, name=name)

    async def record(self, principal: Principal, *, call: str) -> None:
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._members.require_active(session, principal)
            await self._audit.record(session, AuditEntry.by(principal, "operator.denied", call=call))
