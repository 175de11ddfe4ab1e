import json
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, status
from pydantic import TypeAdapter, ValidationError

from bwenge.kit.errors import Invalid
from bwenge.kit.http.dependencies import ActivePrincipal, TenantSession, provided
from bwenge.kit.http.idempotency import CurrentKey
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.idempotency.once import Once
from bwenge.kit.identity import Role
from bwenge.kit.pagination import CurrentPage, Page, cut_page
from bwenge.knowledge.contract import SearchQuery
from bwenge.knowledge.schemas import (
    ChunkItem,
    SearchItem,
    SearchRequest,
    SearchResults,
    SourceStatus,
    SourceStatusName,
    UploadAccepted,
)
from bwenge.knowledge.search import HybridSearch
from bwenge.knowledge.service import SourceService, Upload
from bwenge.knowledge.uploads import UploadForm, receive_upload

router = APIRouter(prefix="/knowledge", tags=["knowledge"])

Sources = Annotated[SourceService, Depends(provided(SourceService))]
Search = Annotated[HybridSearch, Depends(provided(HybridSearch))]

_UPLOAD_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "persona_id"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "At most 100 MB"},
                        "persona_id": {"type": "string", "format": "uuid"},
                        "title": {"type": "string", "maxLength": 200},
                    },
                }
            }
        },
    }
}
_persona_id: Final = TypeAdapter(UUID)
_expert: Final = members(Role.EXPERT, by_confined_key=True)


@router.post(
    "/upload",
    status_code=status.HTTP_202_ACCEPTED,
    dependencies=[_expert, limited("knowledge.upload", "10/minute")],
    openapi_extra=_UPLOAD_FORM,
    responses={
        200: {"model": UploadAccepted, "description": "This content was there already"},
        **problems(401, 402, 403, 404, 409, 413, 415, 422, 503, 429),
    },
)
async def upload(
    request: Request, response: Response, principal: ActivePrincipal, sources: Sources, key: CurrentKey
) -> UploadAccepted:
    """Send a document to be read and indexed; its type is told by its content."""
    length = request.headers.get("content-length", "")
    async with receive_upload(
        request.stream(),
        content_type=request.headers.get("content-type", ""),
        content_length=int(length) if length.isdecimal() else None,
        spool=request.app.state.spool,
    ) as form:
        once: Once[Upload] = await key.once(lambda outcome: _accepted(outcome, response), content=_content_of(form))
        outcome = await sources.upload(principal, _persona_of(form), form.file, title=_title_of(form), once=once)
    return _accepted(outcome, response)


def _persona_of(form: UploadForm) -> UUID:
    try:
        return _persona_id.validate_python(form.fields.get("persona_id", ""))
    except ValidationError as error:
        finding = {"field": "persona_id", "code": "uuid_parsing", "message": "persona_id must be a UUID"}
        raise Invalid(errors=[finding]) from error


def _title_of(form: UploadForm) -> str | None:
    title = form.fields.get("title", "").strip()
    if len(title) > 200:
        finding = {"field": "title", "code": "string_too_long", "message": "A title has at most 200 characters"}
        raise Invalid(errors=[finding])
    return title or None


def _content_of(form: UploadForm) -> bytes:
    """What makes another upload of it: the file's content, whatever its name, and the other fields."""
    return json.dumps([form.file.sha256, sorted(form.fields.items())]).encode()


def _accepted(outcome: Upload, response: Response) -> UploadAccepted:
    source = outcome.source
    if outcome.duplicate:
        response.status_code = status.HTTP_200_OK
    return UploadAccepted(
        upload_id=source.id,
        source_id=source.id,
        status=source.status,
        message="This document is there already" if outcome.duplicate else "Received; it will be read and indexed",
        duplicate=outcome.duplicate,
    )


@router.get(
    "/sources",
    dependencies=[_expert, limited("knowledge.sources", "100/minute")],
    responses=problems(401, 403, 404, 422, 429),
)
async def list_sources(
    session: TenantSession,
    principal: CurrentPrincipal,
    sources: Sources,
    page: CurrentPage,
    persona_id: UUID | None = None,
    source_status: Annotated[SourceStatusName | None, Query(alias="status")] = None,
) -> Page[SourceStatus]:
    """The documents of a persona, or of the organisation; newest first."""
    rows = await sources.list_sources(session, principal, persona_id=persona_id, status=source_status, page=page)
    kept, cursor = cut_page(rows, page.limit)
    positions = await sources.queue_positions(session, principal, kept)
    return Page(
        items=[SourceStatus.of(source, queue_position=positions.get(source.id)) for source in kept],
        next_cursor=cursor,
    )


@router.get(
    "/{source_id}/status",
    dependencies=[_expert, limited("knowledge.status", "100/minute")],
    responses=problems(401, 403, 404, 429),
)
async def source_status(
    session: TenantSession, principal: CurrentPrincipal, sources: Sources, source_id: UUID
) -> SourceStatus:
    """How far the indexing of a document is."""
    source = await sources.get(session, principal, source_id)
    positions = await sources.queue_positions(session, principal, [source])
    return SourceStatus.of(source, queue_position=positions.get(source.id))


@router.get("/{source_id}/chunks", dependencies=[_expert], responses=problems(401, 403, 404, 422, 429))
async def list_chunks(
    session: TenantSession, principal: CurrentPrincipal, sources: Sources, page: CurrentPage, source_id: UUID
) -> Page[ChunkItem]:
    """The passages that the document was cut into, in reading order."""
    rows = await sources.list_chunks(session, principal, source_id, page=page)
    kept, cursor = cut_page(rows, page.limit)
    return Page(items=[ChunkItem.of(chunk) for chunk in kept], next_cursor=cursor)


@router.delete(
    "/{source_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=[_expert, limited("knowledge.delete", "20/minute")],
    responses=problems(401, 403, 404, 429),
)
async def delete_source(session: TenantSession, principal: CurrentPrincipal, sources: Sources, source_id: UUID) -> None:
    """Delete a document; nothing cites it from this moment on."""
    await sources.delete(session, principal, source_id)


@router.post(
    "/search",
    dependencies=[_expert, limited("knowledge.search", "60/minute")],
    responses=problems(401, 403, 404, 422, 429),
)
async def search(principal: ActivePrincipal, sources: Sources, searcher: Search, body: SearchRequest) -> SearchResults:
    """The passages that answer a question best, with both sides' scores."""
    await sources.require_searchable(principal, body.persona_id)
    result = await searcher.search(
        SearchQuery(
            org_id=principal.org_id,
            persona_id=body.persona_id,
            text=body.query,
            top_k=body.top_k,
            alpha=body.alpha,
            fusion=body.fusion,
        )
    )
    return SearchResults(items=[SearchItem.of(hit) for hit in result.hits])
