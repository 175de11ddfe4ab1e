from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator
from starlette.datastructures import UploadFile

from bwenge.auth.identifiers import MAX_NAME_LENGTH
from bwenge.auth.member_import import ImportedRow, MemberImport
from bwenge.auth.member_queries import MemberFilter
from bwenge.auth.member_schemas import ImportedMemberResponse, MemberBody, MemberImportResponse
from bwenge.auth.memberships import Memberships
from bwenge.auth.schemas import UserResponse
from bwenge.kit.errors import Invalid, UnsupportedType
from bwenge.kit.http.dependencies import ActivePrincipal, TenantSession, own_tenant, provided
from bwenge.kit.http.idempotency import CurrentKey
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.idempotency.once import Once
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page
from bwenge.kit.storable import require_storable

router = APIRouter(prefix="/orgs/{org_id}/members", tags=["organisations"])

Service = Annotated[Memberships, Depends(provided(Memberships))]
Import = Annotated[MemberImport, Depends(provided(MemberImport))]

_admin: Final = [members(Role.ADMIN, by_key=False), own_tenant]

_ROSTER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "CSV in UTF-8 with the columns name, username or email, and group; 1,000 rows and 1 MB at most",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


def _searchable(text: str) -> str:
    require_storable(text)
    return text


def _wanted(
    role: Role | None = None,
    group_id: UUID | None = None,
    *,
    is_active: bool | None = None,
    q: Annotated[
        str | None,
        Query(min_length=1, max_length=MAX_NAME_LENGTH, description="A part of the name, email address or username"),
        AfterValidator(_searchable),
    ] = None,
) -> MemberFilter:
    return MemberFilter(role=role, group_id=group_id, is_active=is_active, q=q)


@router.get(
    "",
    operation_id="listMembers",
    dependencies=[members(Role.EXPERT), own_tenant, limited("members.list", "50/minute")],
    responses=problems(401, 403, 404, 422, 429),
)
async def list_members(
    principal: CurrentPrincipal,
    session: TenantSession,
    service: Service,
    wanted: Annotated[MemberFilter, Depends(_wanted)],
    page: CurrentPage,
) -> Page[UserResponse]:
    """Members in the order in which they came; an expert finds the learners of their own classes."""
    kept, cursor = cut_page(await service.list_page(session, principal, wanted, page=page), page.limit)
    return Page(items=[UserResponse.model_validate(member) for member in kept], next_cursor=cursor)


@router.post(
    "/import",
    operation_id="importMembers",
    status_code=201,
    dependencies=[*_admin, limited("members.import", "10/minute")],
    openapi_extra=_ROSTER,
    responses=problems(401, 403, 404, 409, 413, 415, 422, 429),
)
async def import_members(
    request: Request, response: Response, principal: ActivePrincipal, service: Import, key: CurrentKey
) -> MemberImportResponse:
    """Open an account for each row of a list, with a password that this answer alone shows.

    A row that is refused does not hinder the others. Classes that are not there yet are made.
    """
    roster = await _roster(request)
    response.headers["Cache-Control"] = "no-store"
    # The list stands for the request: each form is cut by another boundary.
    once: Once[list[ImportedRow]] = await key.once(_answer, content=roster)
    return _answer(await service.run(principal, roster, once=once))


def _answer(results: list[ImportedRow]) -> MemberImportResponse:
    created = sum(result.user_id is not None for result in results)
    return MemberImportResponse(
        created=created, refused=len(results) - created, items=[_imported(result) for result in results]
    )


async def _roster(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/csv":
        return await request.body()
    if kind != "multipart/form-data":
        raise UnsupportedType("Send text/csv, or a form with the list as its file")
    async with request.form(max_files=1, max_fields=8) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Invalid(errors=[{"field": "file", "code": "missing", "message": "the form has no file"}])
        return await file.read()


def _imported(result: ImportedRow) -> ImportedMemberResponse:
    row, refusal = result.row, result.refusal
    return ImportedMemberResponse(
        row=row.number,
        status="created" if refusal is None else "refused",
        name=row.name,
        username=row.username,
        email=row.email,
        group=row.group,
        user_id=result.user_id,
        password=result.password,
        error_code=None if refusal is None else refusal.code,
        message=None if refusal is None else refusal.detail,
    )


@router.patch(
    "/{user_id}",
    operation_id="updateMember",
    dependencies=[*_admin, limited("members.update", "50/minute")],
    responses=problems(401, 402, 403, 404, 409, 422, 429),
)
async def update_member(user_id: UUID, body: MemberBody, principal: ActivePrincipal, service: Service) -> UserResponse:
    """Change a member's role or name, or whether they are active; a deactivated member is signed out at once."""
    changes = body.model_dump(mode="json", exclude_none=True)
    return UserResponse.model_validate(await service.change(principal, user_id, changes))


@router.delete(
    "/{user_id}",
    operation_id="removeMember",
    status_code=204,
    dependencies=[*_admin, limited("members.remove", "50/minute")],
    responses=problems(401, 403, 404, 409, 429),
)
async def remove_member(user_id: UUID, principal: ActivePrincipal, service: Service) -> None:
    """Sign the member out for good, and erase their name, addresses, password and conversations.

    Personas, documents and classes stay with the organisation.
    """
    await service.remove(principal, user_id)
