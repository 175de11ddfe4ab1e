from typing import Annotated, Final

from fastapi import APIRouter, Depends

from bwenge.auth.member_schemas import OrganizationBody, OrganizationResponse
from bwenge.auth.organizations import Organizations
from bwenge.kit.http.dependencies import TenantSession, own_tenant, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.identity import Role

router = APIRouter(prefix="/orgs/{org_id}", tags=["organisations"])

Service = Annotated[Organizations, Depends(provided(Organizations))]

_member: Final = [members(by_confined_key=True), own_tenant]
_owner: Final = [members(Role.OWNER, by_key=False), own_tenant]


@router.get("", operation_id="getOrganization", dependencies=_member, responses=problems(401, 404))
async def get_organization(
    principal: CurrentPrincipal,
    session: TenantSession,
    service: Service,
) -> OrganizationResponse:
    """The caller's organisation."""
    return OrganizationResponse.model_validate(await service.get(session, principal))


@router.patch("", operation_id="updateOrganization", dependencies=_owner, responses=problems(401, 403, 404, 422))
async def update_organization(
    body: OrganizationBody,
    principal: CurrentPrincipal,
    session: TenantSession,
    service: Service,
) -> OrganizationResponse:
    """Change its name, time zone or language; a field that is null or left out stays."""
    changes = body.model_dump(exclude_none=True)
    return OrganizationResponse.model_validate(await service.update(session, principal, changes))
