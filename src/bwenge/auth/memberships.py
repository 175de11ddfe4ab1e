"""An organisation's members: who they are, what role they have, and how they leave."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import invitation_queries, recovery_queries
from bwenge.auth import member_queries as queries
from bwenge.auth.classes import restricted_to
from bwenge.auth.contract import AuditEntry, AuditLog, MemberRemoved, Members
from bwenge.auth.errors import LastOwner, RoleAboveOwn
from bwenge.auth.member_queries import MemberFilter
from bwenge.auth.models import User
from bwenge.auth.seats import Seats
from bwenge.auth.tokens import Clock
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import Principal, Role
from bwenge.kit.pagination import PageRequest

ERASED_NAME: Final = "Former member"


class Memberships:
    """Changes are made under the lock of the organisation's row, so that one owner and no more than the seats stay.

    Invitations and join links that a member made end when the member is deactivated, removed or given a lower role:
    their tokens would otherwise be a way back in. Codes to set a password with, issued by them or to them, end at every
    change of role: a code is worth no more than the power over the account that it was issued under.
    """

    def __init__(
        self,
        database: Database,
        *,
        members: Members,
        seats: Seats,
        audit: AuditLog,
        removed: Sequence[MemberRemoved],
        clock: Clock,
    ) -> None:
        self._database = database
        self._members = members
        self._seats = seats
        self._audit = audit
        self._removed = removed
        self._clock = clock

    async def list_page(
        self, session: AsyncSession, principal: Principal, wanted: MemberFilter, *, page: PageRequest
    ) -> Sequence[User]:
        """In the order in which they came, one more than the page holds where there are more.

        An expert finds the learners of their own classes alone. Raises `NotFound` for a class that the caller has not.
        """
        taught_by = restricted_to(principal)
        if wanted.group_id is not None and not await queries.has_group(
            session, wanted.group_id, org_id=principal.org_id, owner_id=taught_by
        ):
            raise NotFound
        return await queries.list_members(session, principal.org_id, wanted, taught_by=taught_by, page=page)

    async def change(self, principal: Principal, user_id: UUID, changes: Mapping[str, Any]) -> User:
        """Set the given ones of `role`, `is_active` and `name`. A deactivated member's sessions end.

        Raises:
            NotFound, RoleAboveOwn, LastOwner
            SeatsExhausted: A deactivated member comes back, and there is no seat.
        """
        # Sessions are the platform's; so one transaction of the platform's changes the member and ends them.
        async with self._database.unit_of_work(PLATFORM) as session:
            member = await self._lock(session, principal, user_id)
            before = {field: getattr(member, field) for field in ("role", "is_active", "name")}
            after = before | {field: value for field, value in changes.items() if field in before}
            changed = {field: value for field, value in after.items() if value != before[field]}
            if not changed:
                return member
            await self._require_allowed(
                session, principal, member, role=Role(after["role"]), is_active=after["is_active"]
            )
            for field, value in changed.items():
                setattr(member, field, value)
            await session.flush()
            await self._follow(session, member, before)
            detail = {field: value for field, value in changed.items() if field != "name"}
            entry = AuditEntry.by(
                principal, "member.changed", target=("user", user_id), fields=sorted(changed), **detail
            )
            await self._audit.record(session, entry)
        return member

    async def remove(self, principal: Principal, user_id: UUID) -> None:
        """Deactivate for good, and erase what is personal: name, addresses, password, and what other features keep.

        What the organisation owns stays, under a row without a name. Raises `NotFound`, `RoleAboveOwn`, `LastOwner`.
        """
        async with self._database.unit_of_work(principal.org_id) as session:
            member = await self._lock(session, principal, user_id)
            await self._require_allowed(session, principal, member, role=Role(member.role), is_active=False)
            _erase(member)
            member.erased_at = self._clock()
            await session.flush()
            await queries.leave_groups(session, user_id, org_id=principal.org_id)
            await invitation_queries.withdraw(session, user_id, org_id=principal.org_id)
            await recovery_queries.withdraw_codes(session, user_id, org_id=principal.org_id)
            for listener in self._removed:
                await listener.on_member_removed(session, user_id, org_id=principal.org_id)
            await self._audit.record(session, AuditEntry.by(principal, "member.removed", target=("user", user_id)))
        # Worth nothing from the commit on, which nobody undoes; only the platform's role may delete them.
        async with self._database.unit_of_work(PLATFORM) as session:
            await queries.end_sessions(session, user_id, org_id=principal.org_id)

    async def _lock(self, session: AsyncSession, principal: Principal, user_id: UUID) -> User:
        """The member, once nobody else changes the organisation's members, and unless the caller lost theirs."""
        await queries.lock_organization(session, principal.org_id)
        await self._members.require_active(session, principal)
        return await queries.lock_member(session, user_id, org_id=principal.org_id)

    async def _require_allowed(
        self, session: AsyncSession, principal: Principal, member: User, *, role: Role, is_active: bool
    ) -> None:
        present = Role(member.role)
        if not (principal.role.at_least(present) and principal.role.at_least(role)):
            raise RoleAboveOwn
        is_lost = present is Role.OWNER and member.is_active and not (role is Role.OWNER and is_active)
        if is_lost and not await queries.has_other_owner(session, member.id, org_id=member.organization_id):
            raise LastOwner
        if is_active and not member.is_active:
            await self._seats.require_one(session, member.organization_id)

    async def _follow(self, session: AsyncSession, member: User, before: Mapping[str, Any]) -> None:
        """End what the change takes away."""
        is_deactivated = before["is_active"] and not member.is_active
        if is_deactivated:
            await queries.end_sessions(session, member.id, org_id=member.organization_id)
        if is_deactivated or not Role(member.role).at_least(Role(before["role"])):
            await invitation_queries.withdraw(session, member.id, org_id=member.organization_id)
        if is_deactivated or member.role != before["role"]:
            await recovery_queries.withdraw_codes(session, member.id, org_id=member.organization_id)


def _erase(member: User) -> None:
    """The username names nobody and cannot be used: there is no hash that a password could match."""
    member.name = ERASED_NAME
    member.email = None
    member.username = f"former.{member.id.hex}"
    member.password_hash = ""
    member.is_active = False
