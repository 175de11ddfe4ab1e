from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from bwenge.auth.api_key_schemas import ApiKeyBody, ApiKeyResponse, MadeApiKeyResponse
from bwenge.auth.api_keys import ApiKeys
from bwenge.kit.http.dependencies import OwnTenant, TenantSession, provided
from bwenge.kit.http.idempotency import OnceInSession
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page

router = APIRouter(tags=["organisations"])

in_person: Final = [members(Role.ADMIN, by_key=False)]

Keys = Annotated[ApiKeys, Depends(provided(ApiKeys))]


@router.post(
    "/orgs/{org_id}/api-keys",
    operation_id="createApiKey",
    status_code=201,
    dependencies=in_person,
    responses=problems(401, 403, 404, 409, 422),
)
async def create_api_key(
    org_id: OwnTenant,  # noqa: ARG001  # its check is what matters
    body: ApiKeyBody,
    response: Response,
    principal: CurrentPrincipal,
    session: TenantSession,
    keys: Keys,
    once: OnceInSession,
) -> MadeApiKeyResponse:
    """Make a key that acts for oneself. The key itself is in this answer only."""
    made = await keys.make(session, principal, body.request())
    response.headers["Cache-Control"] = "no-store"
    answer = MadeApiKeyResponse(key=made.key, **ApiKeyResponse.model_validate(made.record).model_dump())
    return await once.keep(answer)


@router.get(
    "/orgs/{org_id}/api-keys",
    operation_id="listApiKeys",
    dependencies=in_person,
    responses=problems(401, 403, 404, 422),
)
async def list_api_keys(
    org_id: OwnTenant, session: TenantSession, keys: Keys, page: CurrentPage
) -> Page[ApiKeyResponse]:
    """The organisation's keys, newest first, without the keys themselves."""
    kept, cursor = cut_page(await keys.list_page(session, org_id, page=page), page.limit)
    return Page(items=[ApiKeyResponse.model_validate(record) for record in kept], next_cursor=cursor)


@router.delete(
    "/orgs/{org_id}/api-keys/{key_id}",
    operation_id="deleteApiKey",
    status_code=204,
    dependencies=in_person,
    responses=problems(401, 403, 404),
)
async def delete_api_key(
    org_id: OwnTenant,  # noqa: ARG001  # its check is what matters
    key_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    keys: Keys,
) -> None:
    """End a key at once, whoever made it."""
    await keys.delete(session, principal, key_id)
