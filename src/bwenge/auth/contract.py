"""What other features may ask about members."""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.identity import Principal


class Members(Protocol):
    async def require_active(self, session: AsyncSession, principal: Principal) -> None:
        """Return if the principal is still an active member of the session's tenant; raise `Unauthenticated` if not.

        A token says who was a member when it was issued; what outlives a token asks again.
        """
        ...
