"""Lists by cursor: `{"items", "next_cursor"}`, ordered by UUIDv7, so by time."""

import base64
from collections.abc import Sequence
from typing import Annotated, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel

from bwenge.kit.errors import Invalid

T = TypeVar("T")


class InvalidCursor(Invalid):
    title = "The cursor is not one that this list gave"


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_cursor: str | None


class PageRequest(BaseModel):
    """Where a page begins (after the row of id `after`) and how many rows it may hold."""

    limit: int
    after: UUID | None


def _page_request(
    limit: Annotated[int, Query(ge=1, le=100)] = 50, cursor: Annotated[str | None, Query(max_length=64)] = None
) -> PageRequest:
    return PageRequest(limit=limit, after=None if cursor is None else _decode(cursor))


CurrentPage = Annotated[PageRequest, Depends(_page_request)]


class Identified(Protocol):
    @property
    def id(self) -> UUID: ...


R = TypeVar("R", bound=Identified)


def cut_page(rows: Sequence[R], limit: int) -> tuple[Sequence[R], str | None]:
    """Split off the extra row that a query with `limit + 1` reads, and make the cursor that leads to it."""
    if len(rows) <= limit:
        return rows, None
    kept = rows[:limit]
    return kept, _encode(kept[-1].id)


def _encode(row_id: UUID) -> str:
    return base64.urlsafe_b64encode(row_id.bytes).decode().rstrip("=")


def _decode(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except ValueError as error:
        raise InvalidCursor(errors=[{"field": "cursor", "code": "invalid", "message": InvalidCursor.title}]) from error
