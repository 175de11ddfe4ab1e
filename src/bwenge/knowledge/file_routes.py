"""Opening the original: the whole file or a range of it, for members and for holders of a signed address."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Final
from urllib.parse import quote
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse

from bwenge.kit.blobs.store import BlobMissing, BlobStore
from bwenge.kit.errors import Forbidden, Unauthenticated
from bwenge.kit.http.dependencies import provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import OptionalPrincipal, holders
from bwenge.kit.identity import Principal, Role
from bwenge.kit.signing import InvalidSignature
from bwenge.knowledge.errors import SourceNotFound
from bwenge.knowledge.links import SignedSourceLinks
from bwenge.knowledge.service import SourceService, StoredFile

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/knowledge", tags=["knowledge"])

_CONTENT_TYPES: Final = {
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "text": "text/plain; charset=utf-8",
    "markdown": "text/markdown; charset=utf-8",
}
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

Sources = Annotated[SourceService, Depends(provided(SourceService))]
Links = Annotated[SignedSourceLinks, Depends(provided(SignedSourceLinks))]
Blobs = Annotated[BlobStore, Depends(provided(BlobStore))]


class Signed:
    """The query of a signed address, whole or absent."""

    def __init__(
        self,
        org: Annotated[UUID | None, Query()] = None,
        expires: Annotated[int | None, Query(ge=0, lt=2**40)] = None,
        signature: Annotated[str | None, Query(max_length=64)] = None,
    ) -> None:
        self.org = org
        self.expires = expires
        self.signature = signature

    def organisation(self, source_id: UUID, links: SignedSourceLinks) -> UUID | None:
        """The tenant that the signature speaks for; None where the address carries none."""
        if self.org is None and self.expires is None and self.signature is None:
            return None
        if self.org is None or self.expires is None or self.signature is None:
            raise InvalidSignature
        links.verify(source_id, org_id=self.org, expires=self.expires, signature=self.signature)
        return self.org


class Conditions:
    """What the client holds already, and which bytes it wants (RFC 9110, 13 and 14)."""

    def __init__(
        self,
        if_none_match: Annotated[str | None, Header()] = None,
        if_range: Annotated[str | None, Header()] = None,
        byte_range: Annotated[str | None, Header(alias="range")] = None,
    ) -> None:
        self._if_none_match = if_none_match or ""
        self._if_range = if_range
        self._range = byte_range or ""

    def is_held(self, etag: str) -> bool:
        held = [tag.strip().removeprefix("W/") for tag in self._if_none_match.split(",")]
        return etag in held or held == ["*"]

    def span(self, size: int, *, etag: str) -> tuple[int, int] | None:
        """Half-open bounds of the one range asked for; None where all is to be sent, start >= end where none can be."""
        match = _RANGE.fullmatch(self._range)
        if match is None or (self._if_range or etag) != etag:
            return None
        first, last = match.groups()
        if not first:
            return (max(size - int(last), 0), size if int(last) else 0) if last else None
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last) + 1, size) if last else size


# Documented once, since HEAD answers as GET does.
@router.head("/{source_id}/file", dependencies=[holders()], include_in_schema=False)
@router.get(
    "/{source_id}/file",
    response_class=Response,
    dependencies=[holders()],
    responses={
        206: {"description": "The range asked for"},
        304: {"description": "The client holds it already"},
        **problems(401, 403, 404, 416),
    },
)
async def open_file(
    request: Request,
    source_id: UUID,
    sources: Sources,
    links: Links,
    blobs: Blobs,
    principal: OptionalPrincipal,
    signed: Annotated[Signed, Depends()],
    conditions: Annotated[Conditions, Depends()],
) -> Response:
    """The original document; a signed `source_url` opens it without a login."""
    org_id = signed.organisation(source_id, links)
    if org_id is None:
        reader = _require_member(principal)
        original = await sources.find_file(source_id, org_id=reader.org_id, principal=reader)
    else:
        original = await sources.find_file(source_id, org_id=org_id)
    headers = _headers(original)
    if conditions.is_held(headers["ETag"]):
        return Response(status_code=304, headers=headers)
    span = conditions.span(original.size, etag=headers["ETag"])
    if span is None:
        return await _part(request, original, blobs, headers, start=0, end=original.size, status_code=200)
    start, end = span
    if start >= end:
        unsatisfied = {"Content-Range": f"bytes */{original.size}"}
        raise HTTPException(416, "The file does not reach as far as that", headers=unsatisfied)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{original.size}"
    return await _part(request, original, blobs, headers, start=start, end=end, status_code=206)


def _require_member(principal: Principal | None) -> Principal:
    if principal is None:
        raise Unauthenticated
    if not principal.role.at_least(Role.EXPERT):
        raise Forbidden
    return principal


def _headers(original: StoredFile) -> dict[str, str]:
    """The file is shown as the type that it was found to be, and never run."""
    headers = {
        "Content-Type": _CONTENT_TYPES.get(original.type, "application/octet-stream"),
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(original.name)}",
        "ETag": f'"{original.key.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "X-Content-Type-Options": "nosniff",
    }
    # Browsers' own viewers of PDF run under the document's policy, and stay blank under this one.
    if original.type != "pdf":
        headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return headers


async def _part(
    request: Request,
    original: StoredFile,
    blobs: BlobStore,
    headers: dict[str, str],
    *,
    start: int,
    end: int,
    status_code: int,
) -> Response:
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD" or start == end:
        return Response(status_code=status_code, headers=headers)
    pieces = blobs.read(original.key, start=start, end=end)
    try:
        first = await anext(pieces)
    except BlobMissing as error:
        _log.warning("original_missing", sha256=original.key.sha256)
        raise SourceNotFound from error
    return StreamingResponse(_joined(first, pieces), status_code=status_code, headers=headers)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
