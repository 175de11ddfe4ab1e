from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse

from bwenge.auth.erasure import OrganisationErasure
from bwenge.auth.exports import OrganisationExports, path_of
from bwenge.auth.identifiers import MAX_NAME_LENGTH
from bwenge.kit.blobs.store import BlobMissing, BlobStore
from bwenge.kit.errors import NotFound, Unauthenticated
from bwenge.kit.http.dependencies import ActivePrincipal, OwnTenant, TenantSession, provided
from bwenge.kit.http.idempotency import OnceInSession
from bwenge.kit.http.job_routes import JobAccepted, SignedAddresses
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, holders, members
from bwenge.kit.identity import Role
from bwenge.kit.signing import InvalidSignature

_log = structlog.get_logger(__name__)

router = APIRouter(tags=["organisations"])

Exports = Annotated[OrganisationExports, Depends(provided(OrganisationExports))]
Erasure = Annotated[OrganisationErasure, Depends(provided(OrganisationErasure))]
Blobs = Annotated[BlobStore, Depends(provided(BlobStore))]
Expires = Annotated[int | None, Query(ge=0, lt=2**40)]
Signature = Annotated[str | None, Query(max_length=64)]
ConfirmName = Annotated[
    str | None,
    Query(max_length=MAX_NAME_LENGTH, description="The organisation's name, to be sure that it is the one meant"),
]


@router.delete(
    "/orgs/{org_id}",
    operation_id="deleteOrganisation",
    status_code=202,
    dependencies=[members(Role.OWNER, by_key=False)],
    responses=problems(401, 403, 404, 422),
)
async def delete_organisation(
    org_id: OwnTenant, principal: ActivePrincipal, erasure: Erasure, confirm_name: ConfirmName = None
) -> JobAccepted:
    """Erase the organisation with its members, personas, documents and conversations. There is no way back.

    Nobody gets in from this answer on. The caller's token is good for GET /jobs/{job_id} alone, until the job is done.
    """
    del org_id
    return JobAccepted(job_id=await erasure.request(principal, confirm_name=confirm_name))


@router.post(
    "/orgs/{org_id}/export",
    operation_id="exportOrganisation",
    status_code=202,
    dependencies=[members(Role.OWNER, by_key=False)],
    responses=problems(401, 403, 404, 409, 422),
)
async def export_organisation(
    org_id: OwnTenant, session: TenantSession, principal: CurrentPrincipal, exports: Exports, once: OnceInSession
) -> JobAccepted:
    """Make an archive of all that is kept of the organisation; the job's `result_url` opens it for seven days."""
    del org_id
    return await once.keep(JobAccepted(job_id=await exports.request(session, principal)))


@router.get(
    "/orgs/{org_id}/exports/{export_id}/file",
    operation_id="openExport",
    response_class=Response,
    dependencies=[holders()],
    responses={200: {"content": {"application/zip": {}}}, **problems(401, 403, 404, 422)},
)
async def open_export(
    org_id: UUID,
    export_id: UUID,
    exports: Exports,
    blobs: Blobs,
    addresses: SignedAddresses,
    expires: Expires = None,
    signature: Signature = None,
) -> StreamingResponse:
    """The archive, for whoever holds its signed address."""
    if expires is None and signature is None:
        raise Unauthenticated
    if expires is None or signature is None:
        raise InvalidSignature
    addresses.verify(path_of(org_id, export_id), expires=expires, signature=signature)
    stored = await exports.find(export_id, org_id=org_id)
    pieces = blobs.read(stored.key)
    try:
        first = await anext(pieces)
    except BlobMissing as error:
        _log.warning("export_missing", sha256=stored.key.sha256)
        raise NotFound from error

    async def joined() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {
        "Content-Disposition": f'attachment; filename="bwenge-export-{export_id}.zip"',
        "Content-Length": str(stored.size),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(joined(), media_type="application/zip", headers=headers)
