from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from bwenge.auth.join_links import JoinLinks
from bwenge.auth.member_schemas import IssuedJoinLinkResponse, JoinLinkBody, JoinLinkResponse
from bwenge.kit.http.dependencies import TenantSession, own_tenant, provided
from bwenge.kit.http.idempotency import OnceInSession
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page

router = APIRouter(prefix="/orgs/{org_id}/join-links", tags=["organisations"])

Service = Annotated[JoinLinks, Depends(provided(JoinLinks))]

_teacher: Final = [members(Role.EXPERT, by_key=False), own_tenant]


@router.post(
    "",
    operation_id="createJoinLink",
    status_code=201,
    dependencies=_teacher,
    responses=problems(401, 403, 404, 409, 422),
)
async def create_join_link(
    body: JoinLinkBody,
    response: Response,
    principal: CurrentPrincipal,
    session: TenantSession,
    service: Service,
    once: OnceInSession,
) -> IssuedJoinLinkResponse:
    """A link by which learners open accounts of their own; each takes a seat as it comes."""
    issued = await service.create(
        session, principal, max_uses=body.max_uses, expires_at=body.expires_at, group_id=body.group_id
    )
    response.headers["Cache-Control"] = "no-store"
    shown = JoinLinkResponse.model_validate(issued.link).model_dump()
    answer = IssuedJoinLinkResponse.model_validate(shown | {"join_token": issued.token, "url": issued.url})
    return await once.keep(answer)


@router.get(
    "",
    operation_id="listJoinLinks",
    dependencies=[members(Role.EXPERT), own_tenant],
    responses=problems(401, 403, 404, 422),
)
async def list_join_links(
    principal: CurrentPrincipal, session: TenantSession, service: Service, page: CurrentPage
) -> Page[JoinLinkResponse]:
    """Links that were not revoked, newest first; an expert sees own ones and those into own classes."""
    kept, cursor = cut_page(await service.list_page(session, principal, page=page), page.limit)
    return Page(items=[JoinLinkResponse.model_validate(link) for link in kept], next_cursor=cursor)


@router.delete(
    "/{join_link_id}",
    operation_id="revokeJoinLink",
    status_code=204,
    dependencies=_teacher,
    responses=problems(401, 403, 404),
)
async def revoke_join_link(
    join_link_id: UUID, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> None:
    """Nobody joins by it any more; who has joined stays."""
    await service.revoke(session, principal, join_link_id)
