"""Operators: the platform's staff, outside every organisation."""

from collections.abc import Sequence

from bwenge.auth import operator_queries, repository
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.identifiers import normalize_email, normalize_name
from bwenge.auth.models import User
from bwenge.auth.operator_queries import OrganizationSummary
from bwenge.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, Passwords
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import OPERATOR, Principal
from bwenge.kit.ids import new_id
from bwenge.kit.pagination import PageRequest


class Operators:
    """Implements `bwenge.kit.identity.OperatorDenials`."""

    def __init__(self, database: Database, *, passwords: Passwords, members: Members, audit: AuditLog) -> None:
        self._database = database
        self._passwords = passwords
        self._members = members
        self._audit = audit

    async def create(self, email: str, *, name: str, password: str) -> User:
        """An operator's account.

        Raises:
            ValueError: The email address, the name or the length of the password is not one, in a sentence.
            EmailTaken: Another account has it.
        """
        if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
            raise ValueError(f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
        operator = User(
            id=new_id(),
            name=normalize_name(name),
            email=normalize_email(email),
            password_hash=await self._passwords.hash(password),
            role=OPERATOR,
        )
        entry = AuditEntry(None, None, "operator.created", target_type="user", target_id=str(operator.id))
        async with self._database.unit_of_work(PLATFORM) as session:
            await repository.add_user(session, operator)
            await self._audit.record(session, entry)
        return operator

    async def list_organizations(self, *, page: PageRequest, name: str | None) -> Sequence[OrganizationSummary]:
        """As `operator_queries.list_organizations`."""
        async with self._database.unit_of_work(PLATFORM) as session:
            return await operator_queries.list_organizations(session, page=page, name=name)

    async def record(self, principal: Principal, *, call: str) -> None:
        async with self._database.unit_of_work(principal.org_id) as session:
            await self._members.require_active(session, principal)
            await self._audit.record(session, AuditEntry.by(principal, "operator.denied", call=call))
