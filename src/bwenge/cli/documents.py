"""A document of one's own: the persona that answers from it alone, and its upload with progress."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bwenge.cli.connection import Platform
from bwenge.cli.failures import CommandFailed

POLL_SECONDS: Final = 0.3
MAX_NAME_CHARACTERS: Final = 100


def personas_of(platform: Platform) -> Iterator[dict[str, Any]]:
    yield from _all(platform, "/personas")


def persona_of_document(platform: Platform, file: Path, output: Console) -> str:
    """Upload a document to a persona that has no other, made where there is none; returns the persona's id.

    One that is made for a document which then cannot be read is taken away again.
    """
    name, persona_id = _free_name(platform, file)
    if persona_id is not None:
        upload(platform, persona_id, file, output)
        return persona_id
    persona_id = str(platform.call("POST", "/personas", "persona_id", json={"name": name})["persona_id"])
    try:
        upload(platform, persona_id, file, output)
    except CommandFailed:
        platform.call("DELETE", f"/personas/{persona_id}")
        raise
    output.print(f'Made a persona "{name}" for this document; ask it again with --persona "{name}".', markup=False)
    return persona_id


def _free_name(platform: Platform, file: Path) -> tuple[str, str | None]:
    """The first of `book`, `book (2)`, `book (3)` … that no persona has, or whose persona has this document."""
    stem = file.stem[:MAX_NAME_CHARACTERS].strip() or "document"
    known = {item["name"]: str(item["persona_id"]) for item in personas_of(platform)}
    name, number = stem, 1
    while name in known:
        if _has_only(platform, known[name], file):
            return name, known[name]
        number += 1
        name = f"{stem} ({number})"
    return name, None


def _has_only(platform: Platform, persona_id: str, file: Path) -> bool:
    """As far as sizes tell: an edited document, or another of the same name, hardly ever has the same one."""
    sources = list(_all(platform, "/knowledge/sources", persona_id=persona_id))
    return {source["file_size"] for source in sources} <= {file.stat().st_size}


def _all(platform: Platform, path: str, **query: str) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        params = query | {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = platform.call("GET", path, "items", "next_cursor", params=params)
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def upload(platform: Platform, persona_id: str, file: Path, output: Console) -> None:
    """Send the file and wait until it can be asked about; what could not be read of it is told."""
    with file.open("rb") as content:
        form = {"data": {"persona_id": persona_id}, "files": {"file": (file.name, content)}}
        accepted = platform.call("POST", "/knowledge/upload", "source_id", **form)
    columns = (TextColumn("{task.fields[name]}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=output) as progress:
        task = progress.add_task("sent", total=1.0, name=escape(file.name))
        while True:
            path = f"/knowledge/{accepted['source_id']}/status"
            status = platform.call("GET", path, "status", "stage", "progress", "chunk_count", "warnings")
            progress.update(task, completed=status["progress"], description=status["stage"])
            if status["status"] == "failed":
                progress.update(task, description="failed")
                raise CommandFailed(f"{file.name}: {status['error_message']} ({status['error_code']})")
            if status["status"] == "ready":
                count = status["chunk_count"]
                progress.update(task, completed=1.0, description=f"{count} passage{'s' if count != 1 else ''}")
                break
            time.sleep(POLL_SECONDS)
    for warning in status["warnings"]:
        output.print(f"Note: {warning['message']}{_pages(warning.get('pages', ()))}.", markup=False)


def _pages(pages: Sequence[int]) -> str:
    return f" (page {', '.join(map(str, pages))})" if pages else ""
