"""Reading what was said: one's own, that of learners by who teaches them, and that of everybody by administrators."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import AuditEntry, AuditLog, Classes
from bwenge.chat import transcript_queries
from bwenge.chat.errors import SessionNotFound
from bwenge.chat.models import Conversation
from bwenge.chat.repository import ChatRepository
from bwenge.chat.retelling import message_bodies
from bwenge.chat.schemas import SessionMessages
from bwenge.kit.identity import Principal, Role
from bwenge.knowledge.contract import CitedSources


class Transcripts:
    def __init__(self, *, classes: Classes, audit: AuditLog, links: CitedSources) -> None:
        self._classes = classes
        self._audit = audit
        self._links = links

    async def sessions(
        self, session: AsyncSession, principal: Principal, *, limit: int, before: UUID | None
    ) -> list[Conversation]:
        """The principal's own, newest first, one more than `limit` where there are more."""
        repository = ChatRepository(session, principal.org_id)
        rows = await repository.conversations(
            principal.user_id, limit=limit, before=before, persona_ids=principal.confined_to
        )
        return list(rows)

    async def messages(
        self, session: AsyncSession, principal: Principal, session_id: UUID, *, limit: int, offset: int
    ) -> SessionMessages:
        """Raises `SessionNotFound` for one that is unknown or not to be read; reading another's is audited."""
        conversation = await transcript_queries.find_conversation(session, session_id, org_id=principal.org_id)
        if conversation is None or not await self._may_read(session, principal, conversation):
            raise SessionNotFound
        if conversation.user_id != principal.user_id:
            entry = AuditEntry.by(
                principal, "session.read", target=("session", session_id), user_id=str(conversation.user_id)
            )
            await self._audit.record(session, entry)
        messages = await ChatRepository(session, principal.org_id).messages(session_id, limit=limit, offset=offset)
        return SessionMessages(
            session_id=session_id,
            messages=await message_bodies(session, messages, links=self._links),
            total=conversation.message_count,
        )

    async def _may_read(self, session: AsyncSession, principal: Principal, conversation: Conversation) -> bool:
        if not principal.may_use(conversation.persona_id):
            return False
        if conversation.user_id == principal.user_id:
            return True
        if principal.confined_to is not None:
            # What others said is for their teachers and for administrators, and no matter of a persona's.
            return False
        if principal.role.at_least(Role.ADMIN):
            return True
        return await self._classes.teaches(session, principal, conversation.user_id)
