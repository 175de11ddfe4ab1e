from typing import Annotated

from fastapi import APIRouter, Depends

from bwenge.auth.audit import AuditTrail
from bwenge.auth.schemas import AuditEntryResponse
from bwenge.kit.http.dependencies import OwnTenant, TenantSession, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import members
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page

router = APIRouter(tags=["organisations"])

Audit = Annotated[AuditTrail, Depends(provided(AuditTrail))]


@router.get(
    "/orgs/{org_id}/audit",
    operation_id="listAuditLog",
    dependencies=[members(Role.ADMIN)],
    responses=problems(401, 403, 404, 422),
)
async def list_audit_log(
    org_id: OwnTenant, session: TenantSession, audit: Audit, page: CurrentPage
) -> Page[AuditEntryResponse]:
    """Who did what, newest first."""
    kept, cursor = cut_page(await audit.list_page(session, org_id, page=page), page.limit)
    return Page(items=[AuditEntryResponse.model_validate(record) for record in kept], next_cursor=cursor)
