"""Lists of new members as schools keep them: CSV, as a spreadsheet or another system writes it.

The first line names the columns: `name`, then `username`, `email` or `username|email`, and, where there are classes,
`group`. Commas, semicolons or tabs part them; the text is UTF-8, with or without a byte order mark.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bwenge.auth.errors import RosterTooLong
from bwenge.auth.identifiers import normalize_email, normalize_name, normalize_username
from bwenge.kit.errors import Invalid

MAX_ROWS: Final = 1_000
MAX_SHOWN_CHARACTERS: Final = 200
"""Of a cell that is given back with its refusal."""

_IDENTIFIERS: Final = ("username", "email", "username|email")
_COLUMNS: Final = frozenset({"name", "group", *_IDENTIFIERS})
_DELIMITERS: Final = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class RosterRow:
    """One new member, in normal form, or as written where `refusal` says what is wrong.

    Attributes:
        number: As a spreadsheet counts: the line of the columns' names is row 1.
    """

    number: int
    name: str
    email: str | None = None
    username: str | None = None
    group: str | None = None
    refusal: str | None = None


def read_roster(content: bytes) -> list[RosterRow]:
    """Every row, empty ones left out.

    Raises:
        Invalid: No UTF-8, no such columns, or no rows.
        RosterTooLong
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid("encoding", "save the list as CSV in UTF-8") from error
    try:
        rows = list(_rows(text))
    except csv.Error as error:
        raise _invalid("csv_invalid", "this is not CSV") from error
    if not rows:
        raise _invalid("missing", "the list has no rows")
    return rows


def _rows(text: str) -> Iterator[RosterRow]:
    heading = text.lstrip("\r\n").partition("\n")[0]
    delimiter = next((mark for mark in _DELIMITERS if _columns(heading, mark) is not None), None)
    if delimiter is None:
        raise _invalid("columns", "the first line names the columns: name, username or email, and group")
    columns: Sequence[str] = ()
    count = 0
    for number, cells in enumerate(
        csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), start=1
    ):
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = _columns(heading, delimiter) or ()
            continue
        count += 1
        if count > MAX_ROWS:
            raise RosterTooLong
        yield _row(number, columns, [cell.strip() for cell in cells])


def _columns(heading: str, delimiter: str) -> Sequence[str] | None:
    """The columns' names, if they are those of a list of members."""
    cells = next(csv.reader([heading], delimiter=delimiter), [])
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    has_needed = "name" in names and any(name in names for name in _IDENTIFIERS)
    return names if has_needed and len(set(names)) == len(names) and set(names) <= _COLUMNS else None


def _row(number: int, columns: Sequence[str], cells: list[str]) -> RosterRow:
    values = dict(zip(columns, cells, strict=False))
    email, username = _identifiers(values)
    name, group = values.get("name", ""), values.get("group") or None
    try:
        if any(cells[len(columns) :]):
            raise ValueError("the row has more cells than there are columns")
        if email is None and username is None:
            raise ValueError("the row has neither a username nor an email address")
        return RosterRow(
            number,
            name=normalize_name(name),
            email=None if email is None else normalize_email(email),
            username=None if username is None else normalize_username(username),
            group=None if group is None else normalize_name(group),
        )
    except ValueError as error:
        return RosterRow(
            number,
            name=name[:MAX_SHOWN_CHARACTERS],
            email=_shown(email),
            username=_shown(username),
            group=_shown(group),
            refusal=str(error),
        )


def _identifiers(values: dict[str, str]) -> tuple[str | None, str | None]:
    """Email address and username; an `@` in a column for either tells which one it is."""
    email, username = values.get("email") or None, values.get("username") or None
    either = values.get("username|email") or None
    if either is None and username is not None and email is None and "@" in username:
        either, username = username, None
    if either is not None:
        return (either, username) if "@" in either else (email, either)
    return email, username


def _shown(cell: str | None) -> str | None:
    return None if cell is None else cell[:MAX_SHOWN_CHARACTERS]


def _invalid(code: str, message: str) -> Invalid:
    return Invalid(errors=[{"field": "file", "code": code, "message": message}])
