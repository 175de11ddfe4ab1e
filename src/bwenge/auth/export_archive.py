"""The archive of an export: a ZIP that is written piece by piece to the local disk, and says what is in it."""

import asyncio
import json
import re
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

MAX_NAME_BYTES: Final = 200
"""Of a file's name: most file systems take 255 bytes."""

_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')

_README: Final = """\
This archive holds everything that the platform keeps of the organisation "{name}",
as it stood on {made_at}.

manifest.json   what each file of this archive is, in a form for programs
tables/         one file for each kind of record, in JSON Lines: one JSON object in each line
files/          the files that were uploaded, byte for byte, under their original names

Tables

{tables}

Files

{files}

Left out

{left_out}
"""


@dataclass(slots=True)
class Manifest:
    """What stands in the archive, and what does not."""

    organisation: Mapping[str, str]
    made_at: str
    tables: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> str:
        content = {
            "organisation": dict(self.organisation),
            "made_at": self.made_at,
            "tables": self.tables,
            "files": self.files,
            "left_out": self.left_out,
        }
        return json.dumps(content, ensure_ascii=False, indent=2)

    def to_text(self) -> str:
        tables = [f"{table['path']}: {table['describes']} ({table['rows']} rows)" for table in self.tables]
        files = [f"{file['path'] or file['sha256']}: {file['describes']}" for file in self.files]
        left_out = [f"{part['what']}: {part['why']}" for part in self.left_out]
        return _README.format(
            name=self.organisation["name"],
            made_at=self.made_at,
            tables=_listed(tables),
            files=_listed(files),
            left_out=_listed(left_out),
        )


class ArchiveWriter:
    """Blocks the event loop at no moment, and holds one piece in memory."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)

    async def add_lines(self, name: str, batches: AsyncIterator[Sequence[str]]) -> int:
        """A member of text lines; returns how many there were."""
        count = 0
        with self._zip.open(name, "w", force_zip64=True) as member:
            async for batch in batches:
                await asyncio.to_thread(member.write, "".join(f"{line}\n" for line in batch).encode())
                count += len(batch)
        return count

    async def add_file(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """A member of bytes, as they are: most formats that are uploaded are compressed already.

        What `pieces` raises before its first piece leaves no member.
        """
        first = await anext(pieces, b"")
        with self._zip.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
            await asyncio.to_thread(member.write, first)
            async for piece in pieces:
                await asyncio.to_thread(member.write, piece)

    async def add_text(self, name: str, text: str) -> None:
        await asyncio.to_thread(self._zip.writestr, name, text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zip.close()


def safe_name(file_name: str) -> str:
    """The name as one part of a path that every system takes, and that leads nowhere else."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", file_name)).strip(". ") or "_"
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > 16:
        stem, dot, suffix = name, "", ""
    room = MAX_NAME_BYTES - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(lines) or "none"
