from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.chat.repository import ChatRepository


class ConversationErasure:
    """Implements `auth.contract.MemberRemoved`: what a member said and was told goes with them.

    A turn that runs meanwhile finds its record gone when it ends, and keeps nothing.
    """

    async def on_member_removed(self, session: AsyncSession, user_id: UUID, *, org_id: UUID) -> None:
        await ChatRepository(session, org_id).erase_all(user_id)
