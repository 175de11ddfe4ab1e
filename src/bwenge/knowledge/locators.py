"""Where in a source something stands."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Locator:
    """A place in a source, in the units in which its viewer counts.

    Attributes:
        page: Counts from 1; the page on which the place begins.
        page_end: The page on which it ends.
        slide: Counts from 1.
        heading: The path of headings above the place, "A > B", shortened where it is very long.
        start_time: Seconds into a recording; `end_time` likewise.
        char_start: Offset in the source's whole extracted text; `char_end` is just past the end.
    """

    char_start: int
    char_end: int
    page: int | None = None
    page_end: int | None = None
    slide: int | None = None
    heading: str | None = None
    start_time: float | None = None
    end_time: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The wire form: only what is known."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}


class PlaceStart(NamedTuple):
    """Where in a chunk's text another page or another section begins.

    Attributes:
        page: Counts from 1; None where the format has no pages.
        heading: The path of headings, as in `Locator`; None above the first of them.
    """

    offset: int
    page: int | None
    heading: str | None
