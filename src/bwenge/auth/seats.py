"""Seats: live invitations and active members hold them, and a plan says how many there are."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import member_queries
from bwenge.auth.contract import SeatPolicy
from bwenge.auth.errors import SeatsExhausted
from bwenge.auth.tokens import Clock


class Seats:
    """Counts under the lock of the organisation's row, which whoever takes a seat holds until the commit."""

    def __init__(self, policy: SeatPolicy, *, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock

    async def free(self, session: AsyncSession, org_id: UUID) -> int | None:
        """How many more seats may be taken in this transaction; None is without limit."""
        await member_queries.lock_organization(session, org_id)
        seats = await self._policy.seats(session, org_id)
        if seats is None:
            return None
        return max(0, seats - await member_queries.count_seats(session, org_id, now=self._clock()))

    async def require_one(
        self, session: AsyncSession, org_id: UUID, *, refusal: type[SeatsExhausted] = SeatsExhausted
    ) -> None:
        """Raises `refusal` when every seat is taken."""
        if await self.free(session, org_id) == 0:
            raise refusal
