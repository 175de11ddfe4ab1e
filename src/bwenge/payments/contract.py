"""What other features ask of an organisation's plan: room for an act, inside the transaction of the act itself."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

PlanName = Literal["free", "basic", "pro", "enterprise"]


class QuotaKind(StrEnum):
    """MESSAGES are counted by month, STORAGE in bytes and without a period."""

    MESSAGES = "messages"
    STORAGE = "storage"


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """What is used of one quota in its present period; `limit` None is without limit."""

    limit: int | None
    used: int

    def has_room(self, amount: int) -> bool:
        return self.limit is None or self.used + amount <= self.limit

    @property
    def percentage(self) -> float | None:
        """Of the limit, above 100 where a smaller plan came after the use; None without a limit."""
        return None if self.limit is None else round(100 * self.used / self.limit, 1)


class Quotas(Protocol):
    """Reservations of quota, one for each act, whose id the caller gives.

    Every method belongs to the caller's transaction and may be repeated. An organisation's reservations take turns from
    `reserve` or `release` until the transaction ends: they are best its last statements.
    """

    async def require_room(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, amount: int) -> None:
        """Look, without reserving anything, whether costly work would be for nothing.

        Raises:
            QuotaExhausted: The present period has no room for the amount.
        """
        ...

    async def reserve(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, amount: int, act_id: UUID) -> None:
        """Take the amount from the present period. An act that has its reservation keeps that one.

        A released act is reserved anew.

        Raises:
            QuotaExhausted: The period has no room for it; `detail` says what to do. Nothing was reserved.
        """
        ...

    async def settle(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID) -> None:
        """The act is done, and what it took is used for good. Without effect on an act that is not reserved."""
        ...

    async def release(self, session: AsyncSession, org_id: UUID, *, kind: QuotaKind, act_id: UUID) -> None:
        """Give the amount back to the period that it was taken from. Without effect on an act that is not reserved."""
        ...
