from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends

from bwenge.auth.group_schemas import (
    GroupBody,
    GroupChanges,
    GroupPersonaResponse,
    GroupResponse,
    MembersAdded,
    MembersBody,
    PersonasAdded,
    PersonasBody,
)
from bwenge.auth.groups import GroupService
from bwenge.auth.schemas import UserResponse
from bwenge.kit.http.dependencies import OwnTenant, TenantSession, provided
from bwenge.kit.http.idempotency import OnceInSession
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page

router = APIRouter(prefix="/orgs/{org_id}/groups", tags=["groups"])

Groups = Annotated[GroupService, Depends(provided(GroupService))]
teachers: Final = [members(Role.EXPERT)]


@router.post(
    "", operation_id="createGroup", status_code=201, dependencies=teachers, responses=problems(401, 403, 404, 409, 422)
)
async def create_group(
    _tenant: OwnTenant,
    body: GroupBody,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
    once: OnceInSession,
) -> GroupResponse:
    """Make a class. Its owner, an expert or above, teaches it; only administrators name somebody else."""
    group = await groups.create(session, principal, name=body.name, owner_id=body.owner_id)
    return await once.keep(GroupResponse.model_validate(group))


@router.get("", operation_id="listGroups", dependencies=teachers, responses=problems(401, 403, 404, 422))
async def list_groups(
    _tenant: OwnTenant, principal: CurrentPrincipal, session: TenantSession, groups: Groups, page: CurrentPage
) -> Page[GroupResponse]:
    """The organisation's classes, newest first; experts see their own."""
    kept, cursor = cut_page(await groups.list_page(session, principal, page), page.limit)
    return Page(items=[GroupResponse.model_validate(group) for group in kept], next_cursor=cursor)


@router.get("/{group_id}", operation_id="getGroup", dependencies=teachers, responses=problems(401, 403, 404))
async def get_group(
    _tenant: OwnTenant, group_id: UUID, principal: CurrentPrincipal, session: TenantSession, groups: Groups
) -> GroupResponse:
    """One class."""
    return GroupResponse.model_validate(await groups.get(session, principal, group_id))


@router.patch("/{group_id}", operation_id="updateGroup", dependencies=teachers, responses=problems(401, 403, 404, 422))
async def update_group(
    _tenant: OwnTenant,
    group_id: UUID,
    body: GroupChanges,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
) -> GroupResponse:
    """Rename a class; administrators may give it to somebody else."""
    group = await groups.update(session, principal, group_id, name=body.name, owner_id=body.owner_id)
    return GroupResponse.model_validate(group)


@router.delete(
    "/{group_id}",
    operation_id="deleteGroup",
    status_code=204,
    dependencies=teachers,
    responses=problems(401, 403, 404),
)
async def delete_group(
    _tenant: OwnTenant, group_id: UUID, principal: CurrentPrincipal, session: TenantSession, groups: Groups
) -> None:
    """Take the class away; learners and personas stay. A persona that was in no other class is seen by everyone."""
    await groups.delete(session, principal, group_id)


@router.get(
    "/{group_id}/members",
    operation_id="listGroupMembers",
    dependencies=teachers,
    responses=problems(401, 403, 404, 422),
)
async def list_group_members(
    _tenant: OwnTenant,
    group_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
    page: CurrentPage,
) -> Page[UserResponse]:
    """The class's learners, newest accounts first."""
    kept, cursor = cut_page(await groups.list_members(session, principal, group_id, page), page.limit)
    return Page(items=[UserResponse.model_validate(user) for user in kept], next_cursor=cursor)


@router.post(
    "/{group_id}/members",
    operation_id="addGroupMembers",
    status_code=201,
    dependencies=teachers,
    responses=problems(401, 403, 404, 409, 422),
)
async def add_group_members(
    _tenant: OwnTenant,
    group_id: UUID,
    body: MembersBody,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
    once: OnceInSession,
) -> MembersAdded:
    """Let learners into the class, all of them or none; who is in it already stays.

    An expert lets in learners who are in no class, or in one of their own already; administrators anybody.
    """
    added = await groups.add_members(session, principal, group_id, body.ids())
    return await once.keep(MembersAdded(group_id=group_id, user_ids=sorted(body.ids()), added=sorted(added)))


@router.put(
    "/{group_id}/members/{user_id}",
    operation_id="putGroupMember",
    status_code=204,
    dependencies=teachers,
    responses=problems(401, 403, 404, 422),
)
async def put_group_member(
    _tenant: OwnTenant,
    group_id: UUID,
    user_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
) -> None:
    """Let one learner into the class, whom an expert may as they may several; again changes nothing."""
    await groups.add_members(session, principal, group_id, [user_id])


@router.delete(
    "/{group_id}/members/{user_id}",
    operation_id="removeGroupMember",
    status_code=204,
    dependencies=teachers,
    responses=problems(401, 403, 404),
)
async def remove_group_member(
    _tenant: OwnTenant,
    group_id: UUID,
    user_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
) -> None:
    """Take a learner out of the class; the account stays."""
    await groups.remove_member(session, principal, group_id, user_id)


@router.get(
    "/{group_id}/personas",
    operation_id="listGroupPersonas",
    dependencies=teachers,
    responses=problems(401, 403, 404, 422),
)
async def list_group_personas(
    _tenant: OwnTenant,
    group_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
    page: CurrentPage,
) -> Page[GroupPersonaResponse]:
    """The personas that are shown to the class, newest first."""
    kept, cursor = cut_page(await groups.list_personas(session, principal, group_id, page), page.limit)
    return Page(items=[GroupPersonaResponse.model_validate(persona) for persona in kept], next_cursor=cursor)


@router.post(
    "/{group_id}/personas",
    operation_id="addGroupPersonas",
    status_code=201,
    dependencies=teachers,
    responses=problems(401, 403, 404, 409, 422),
)
async def add_group_personas(
    _tenant: OwnTenant,
    group_id: UUID,
    body: PersonasBody,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
    once: OnceInSession,
) -> PersonasAdded:
    """Show personas, an expert's own, to the class, all or none: then only learners of its classes see a persona."""
    added = await groups.add_personas(session, principal, group_id, body.ids())
    return await once.keep(PersonasAdded(group_id=group_id, persona_ids=sorted(body.ids()), added=sorted(added)))


@router.delete(
    "/{group_id}/personas/{persona_id}",
    operation_id="removeGroupPersona",
    status_code=204,
    dependencies=teachers,
    responses=problems(401, 403, 404),
)
async def remove_group_persona(
    _tenant: OwnTenant,
    group_id: UUID,
    persona_id: UUID,
    principal: CurrentPrincipal,
    session: TenantSession,
    groups: Groups,
) -> None:
    """Show the persona to this class no more; one that is in no class any more is seen by everyone."""
    await groups.remove_persona(session, principal, group_id, persona_id)
