from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from bwenge.chat import sockets
from bwenge.chat.schemas import SessionMessages, SessionPage, session_body
from bwenge.chat.service import ChatService
from bwenge.kit.http.dependencies import TenantSession, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal
from bwenge.kit.pagination import CurrentPage, cut_page

router = APIRouter(tags=["chat"])
router.include_router(sockets.router)

Service = Annotated[ChatService, Depends(provided(ChatService))]


@router.get("/sessions", responses=problems(401, 422))
async def list_sessions(
    principal: CurrentPrincipal, page: CurrentPage, session: TenantSession, service: Service
) -> SessionPage:
    """Your own sessions, newest first."""
    rows = await service.sessions(session, principal, limit=page.limit, before=page.after)
    kept, next_cursor = cut_page(rows, page.limit)
    return SessionPage(items=[session_body(row) for row in kept], next_cursor=next_cursor)


@router.get("/sessions/{session_id}/messages", responses=problems(401, 404, 422))
async def list_messages(
    session_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    service: Service,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> SessionMessages:
    """What was said in one of your sessions, oldest first."""
    return await service.messages(session, principal, session_id, limit=limit, offset=offset)


@router.delete("/sessions/{session_id}", status_code=204, responses=problems(401, 404))
async def delete_session(session_id: UUID, principal: CurrentPrincipal, service: Service) -> None:
    """Erase one of your sessions; its open connections are closed."""
    await service.delete(principal, session_id)
