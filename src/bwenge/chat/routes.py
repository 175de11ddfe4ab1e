from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from bwenge.chat import sockets, stats_routes
from bwenge.chat.schemas import SessionMessages, SessionPage, session_body
from bwenge.chat.service import ChatService
from bwenge.chat.transcripts import Transcripts
from bwenge.kit.http.dependencies import ActivePrincipal, TenantSession, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.pagination import CurrentPage, cut_page

router = APIRouter(tags=["chat"])
router.include_router(sockets.router)
router.include_router(stats_routes.router)

Service = Annotated[ChatService, Depends(provided(ChatService))]
Reading = Annotated[Transcripts, Depends(provided(Transcripts))]

_member: Final = members(by_confined_key=True)


@router.get("/sessions", dependencies=[_member], responses=problems(401, 422))
async def list_sessions(
    principal: CurrentPrincipal, page: CurrentPage, session: TenantSession, transcripts: Reading
) -> SessionPage:
    """Your own sessions, newest first."""
    rows = await transcripts.sessions(session, principal, limit=page.limit, before=page.after)
    kept, next_cursor = cut_page(rows, page.limit)
    return SessionPage(items=[session_body(row) for row in kept], next_cursor=next_cursor)


@router.get("/sessions/{session_id}/messages", dependencies=[_member], responses=problems(401, 404, 422))
async def list_messages(
    session_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    transcripts: Reading,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> SessionMessages:
    """What was said in a session of yours, oldest first.

    Experts may read those of the learners of their classes, administrators everyone's; the audit log keeps who did.
    An API key that is confined to personas reads what its maker said to these.
    """
    return await transcripts.messages(session, principal, session_id, limit=limit, offset=offset)


@router.delete("/sessions/{session_id}", status_code=204, dependencies=[_member], responses=problems(401, 404))
async def delete_session(session_id: UUID, principal: ActivePrincipal, service: Service) -> None:
    """Erase one of your sessions; its open connections are closed."""
    await service.delete(principal, session_id)
