from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends

from bwenge.kit.http.dependencies import TenantSession, provided
from bwenge.kit.http.idempotency import OnceInSession
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page
from bwenge.persona.schemas import (
    LearnerPersonaResponse,
    PersonaBody,
    PersonaReplacement,
    PersonaResponse,
    PersonaSettings,
)
from bwenge.persona.service import PersonaService, shown_to

router = APIRouter(prefix="/personas", tags=["personas"])

Service = Annotated[PersonaService, Depends(provided(PersonaService))]
_write_limit: Final = limited("personas.write", "20/minute")
# A confined key names its personas already, and would not see another that it made.
create: Final = [members(Role.EXPERT), _write_limit]
write: Final = [members(Role.EXPERT, by_confined_key=True), _write_limit]
read: Final = [members(by_confined_key=True), limited("personas.read", "100/minute")]


@router.post(
    "", operation_id="createPersona", status_code=201, dependencies=create, responses=problems(401, 403, 409, 422, 429)
)
async def create_persona(
    body: PersonaBody, principal: CurrentPrincipal, session: TenantSession, service: Service, once: OnceInSession
) -> PersonaResponse:
    """Make a persona, owned by who makes it."""
    return await once.keep(PersonaResponse.model_validate(await service.create(session, principal, body)))


@router.get("", operation_id="listPersonas", dependencies=read, responses=problems(401, 422, 429))
async def list_personas(
    principal: CurrentPrincipal, session: TenantSession, service: Service, page: CurrentPage
) -> Page[PersonaResponse | LearnerPersonaResponse]:
    """The organisation's personas, newest first; learners see the active ones of their groups and of none."""
    kept, cursor = cut_page(await service.list_page(session, principal, page), page.limit)
    return Page(items=[shown_to(principal, persona) for persona in kept], next_cursor=cursor)


@router.get("/{persona_id}", operation_id="getPersona", dependencies=read, responses=problems(401, 404, 429))
async def get_persona(
    persona_id: UUID, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> PersonaResponse | LearnerPersonaResponse:
    """One persona; learners see it without its instructions."""
    return shown_to(principal, await service.get(session, principal, persona_id))


@router.put(
    "/{persona_id}",
    operation_id="replacePersona",
    dependencies=write,
    responses=problems(401, 403, 404, 409, 422, 429),
)
async def replace_persona(
    persona_id: UUID, body: PersonaReplacement, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> PersonaResponse:
    """Write the whole persona anew; for its owner and administrators. What is left out gets its default."""
    persona = await service.replace(session, principal, persona_id=persona_id, body=body)
    return PersonaResponse.model_validate(persona)


@router.delete(
    "/{persona_id}",
    operation_id="deletePersona",
    status_code=204,
    dependencies=write,
    responses=problems(401, 403, 404, 429),
)
async def delete_persona(
    persona_id: UUID, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> None:
    """Take the persona away; for its owner and administrators. Conversations held with it stay."""
    await service.delete(session, principal, persona_id)


@router.post(
    "/{persona_id}/settings",
    operation_id="mergePersonaSettings",
    dependencies=[members(Role.EXPERT, by_confined_key=True), limited("personas.settings", "20/minute")],
    responses=problems(401, 403, 404, 422, 429),
)
async def merge_persona_settings(
    persona_id: UUID, body: PersonaSettings, principal: CurrentPrincipal, session: TenantSession, service: Service
) -> PersonaResponse:
    """Change some of the settings; null takes one back to its default. For the persona's owner and administrators."""
    persona = await service.merge_settings(session, principal, persona_id=persona_id, settings=body)
    return PersonaResponse.model_validate(persona)
