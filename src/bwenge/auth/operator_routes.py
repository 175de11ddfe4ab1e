from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, Field

from bwenge.auth.identifiers import MAX_NAME_LENGTH
from bwenge.auth.operators import Operators
from bwenge.kit.http.dependencies import ActiveOperator, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.schemas import ResponseBody, Timestamp
from bwenge.kit.http.security import operators
from bwenge.kit.pagination import CurrentPage, Page, cut_page
from bwenge.kit.storable import require_storable

router = APIRouter(prefix="/operator", tags=["operator"])


def _storable(value: str) -> str:
    require_storable(value)
    return value


PartOfName = Annotated[str, Query(max_length=MAX_NAME_LENGTH), AfterValidator(_storable)]


class OrganizationSummaryResponse(ResponseBody):
    org_id: UUID = Field(validation_alias="id")
    name: str
    time_zone: str
    language: str
    created_at: Timestamp
    members: int = Field(description="Active ones")


@router.get(
    "/orgs",
    operation_id="listOrganizations",
    dependencies=[limited("operator", "100/minute"), operators()],
    responses=problems(401, 403, 422, 429),
)
async def list_organizations(
    _operator: ActiveOperator,
    service: Annotated[Operators, Depends(provided(Operators))],
    page: CurrentPage,
    q: PartOfName | None = None,
) -> Page[OrganizationSummaryResponse]:
    """All organisations, newest first; with `q`, those whose name holds it, in any case."""
    kept, cursor = cut_page(await service.list_organizations(page=page, name=q), page.limit)
    return Page(items=[OrganizationSummaryResponse.model_validate(summary) for summary in kept], next_cursor=cursor)
