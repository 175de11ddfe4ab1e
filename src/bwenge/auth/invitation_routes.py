from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from bwenge.auth.invitations import Invitations, IssuedInvitation
from bwenge.auth.member_schemas import InvitationBody, InvitationResponse, IssuedInvitationResponse
from bwenge.kit.http.dependencies import ActivePrincipal, OwnTenant, TenantSession, own_tenant, provided
from bwenge.kit.http.idempotency import CurrentKey
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.idempotency.once import Once
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page

router = APIRouter(prefix="/orgs/{org_id}", tags=["organisations"])

Service = Annotated[Invitations, Depends(provided(Invitations))]

_inviter: Final = members(Role.ADMIN, by_key=False)


@router.post(
    "/invite",
    operation_id="inviteMember",
    status_code=201,
    dependencies=[_inviter, own_tenant, limited("orgs.invite", "10/minute")],
    responses=problems(401, 402, 403, 404, 409, 422, 429),
)
async def invite_member(
    body: InvitationBody, response: Response, principal: ActivePrincipal, service: Service, key: CurrentKey
) -> IssuedInvitationResponse:
    """Hold a seat for an email address, for seven days; an open invitation of the same address is replaced.

    The link is mailed where the installation sends mail, and in the answer in any case.
    """
    response.headers["Cache-Control"] = "no-store"
    once: Once[IssuedInvitation] = await key.once(_issued)
    return _issued(await service.invite(principal, email=body.email, role=body.role, name=body.name, once=once))


def _issued(issued: IssuedInvitation) -> IssuedInvitationResponse:
    return IssuedInvitationResponse.model_validate(
        InvitationResponse.model_validate(issued.invitation).model_dump()
        | {"invite_token": issued.token, "url": issued.url, "mailed": issued.mailed}
    )


@router.get(
    "/invitations",
    operation_id="listInvitations",
    dependencies=[members(Role.ADMIN)],
    responses=problems(401, 403, 404, 422),
)
async def list_invitations(
    org_id: OwnTenant, session: TenantSession, service: Service, page: CurrentPage
) -> Page[InvitationResponse]:
    """Invitations that nobody has accepted yet, newest first; expired ones hold no seat."""
    kept, cursor = cut_page(await service.list_page(session, org_id, page=page), page.limit)
    return Page(items=[InvitationResponse.model_validate(invitation) for invitation in kept], next_cursor=cursor)


@router.delete(
    "/invitations/{invite_id}",
    operation_id="revokeInvitation",
    status_code=204,
    dependencies=[_inviter, own_tenant],
    responses=problems(401, 403, 404),
)
async def revoke_invitation(
    invite_id: UUID, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> None:
    """Take an invitation back and free its seat."""
    await service.revoke(session, principal, invite_id)
