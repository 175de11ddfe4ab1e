"""What other features may ask about members and groups, and the log of what was done."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.identity import Caller, Principal


class Members(Protocol):
    async def require_active(self, session: AsyncSession, principal: Principal, *, hold: bool = False) -> None:
        """Return if the principal is still an active member of the session's tenant; raise `Unauthenticated` if not.

        A token says who was a member when it was issued; what outlives a token asks again. Of an API key, it must not
        have been deleted or have expired. With `hold`, whoever would deactivate or remove the member waits until the
        transaction ends, and so finds what it wrote.
        """
        ...


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act.

    Attributes:
        org_id: Whose log it belongs to; None for the platform's own.
        actor_id: Who acted; None where nobody was signed in.
        action: What was done, as `noun.verb` (`member.invited`, `login.refused`).
        target_type: What kind of thing it was done to; `target_id` names it.
        detail: What else is worth keeping; never a secret, a token or the text of a message.
    """

    org_id: UUID | None
    actor_id: UUID | None
    action: str
    target_type: str | None = None
    target_id: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def by(
        cls,
        caller: Caller,
        action: str,
        *,
        org_id: UUID | None = None,
        target: tuple[str, UUID] | None = None,
        **detail: Any,
    ) -> "AuditEntry":
        """An act of the caller's, in the log of their organisation; an operator's is in that of `org_id`."""
        if isinstance(caller, Principal):
            org_id = caller.org_id
            detail |= {} if caller.key_id is None else {"key_id": str(caller.key_id)}
        kind, target_id = target or (None, None)
        return cls(
            org_id=org_id,
            actor_id=caller.user_id,
            action=action,
            target_type=kind,
            target_id=None if target_id is None else str(target_id),
            detail=detail,
        )


class AuditLog(Protocol):
    """Notes an act in the transaction of the act itself; the client's address is that of the present request."""

    async def record(self, session: AsyncSession, entry: AuditEntry) -> None: ...


class Tenants(Protocol):
    """Facts about an organisation, for features that know no more of it than its id."""

    async def time_zone(self, session: AsyncSession, org_id: UUID) -> tzinfo:
        """Raises `NotFound` for an organisation that is not there."""
        ...

    async def require_open(self, session: AsyncSession, org_id: UUID) -> None:
        """Raises `NotFound` for an organisation that is not there or is being erased."""
        ...

    async def seats_taken(self, session: AsyncSession, org_id: UUID) -> int:
        """How many seats of the plan its active members and its live invitations hold."""
        ...


class MemberRemoved(Protocol):
    """Told that a member was removed, in the transaction of the removal: what was theirs alone is erased."""

    async def on_member_removed(self, session: AsyncSession, user_id: UUID, *, org_id: UUID) -> None: ...


class SeatPolicy(Protocol):
    """What a plan says of an organisation's size; payments implements it."""

    async def seats(self, session: AsyncSession, org_id: UUID) -> int | None:
        """How many active members and live invitations together the plan allows; None is without limit."""
        ...


class UnlimitedSeats:
    """Where no plan says anything."""

    async def seats(self, session: AsyncSession, org_id: UUID) -> int | None:  # noqa: ARG002  # the policy's signature
        return None


class Classes(Protocol):
    """What an organisation's groups decide: which personas a learner sees, and who teaches whom."""

    async def hidden_personas(
        self, session: AsyncSession, principal: Principal, *, among: Collection[UUID] | None = None
    ) -> frozenset[UUID]:
        """The personas that are kept from the principal, all of them or those `among` the given ones.

        A learner does not see a persona that is in groups, none of which is theirs; from expert on, everything is seen,
        and by an API key, what it is confined to.
        """
        ...

    async def teaches(self, session: AsyncSession, principal: Principal, learner_id: UUID) -> bool:
        """Whether the principal, an expert or above, owns a group of which that learner is a member."""
        ...

    async def forget_persona(self, session: AsyncSession, persona_id: UUID, *, org_id: UUID) -> None:
        """Take a persona that is being deleted out of every group."""
        ...


@dataclass(frozen=True, slots=True)
class KeptPersona:
    """`owner_id` is None where nobody owns it any more."""

    owner_id: UUID | None


class PersonaDirectory(Protocol):
    """Which personas there are; the personas' own feature implements it."""

    async def keep(self, session: AsyncSession, persona_id: UUID) -> KeptPersona | None:
        """This persona of the session's tenant, if there is one; nobody deletes it before the transaction ends."""
        ...

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        """Those of the ids that name a persona of the organisation."""
        ...


class NoPersonas:
    """Where nothing has personas."""

    async def keep(self, session: AsyncSession, persona_id: UUID) -> None:  # noqa: ARG002  # the directory's signature
        return None

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:  # noqa: ARG002  # the directory's signature
        return frozenset()
