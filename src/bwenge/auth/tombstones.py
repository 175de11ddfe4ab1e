"""Which organisations were erased, kept beside the database, so that no backup that is restored revives one."""

import asyncio
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import structlog

_log = structlog.get_logger(__name__)


class TombstoneFile:
    """A JSON line for each organisation that was to be erased: its id, its reference in records, and the time.

    It is only ever added to, and each line is on the disk before anything of its organisation is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> dict[UUID, UUID]:
        """The reference of each organisation by its id. A line that a crash cut short is none."""
        return await asyncio.to_thread(self._read)

    async def keep(self, tombstones: Mapping[UUID, UUID]) -> None:
        """Add what is not there yet."""
        await asyncio.to_thread(self._keep, tombstones)

    def _read(self) -> dict[UUID, UUID]:
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        found: dict[UUID, UUID] = {}
        for number, line in enumerate(filter(str.strip, lines), start=1):
            try:
                tombstone = json.loads(line)
                found[UUID(tombstone["org_id"])] = UUID(tombstone["reference"])
            except (ValueError, TypeError, KeyError, AttributeError):
                _log.warning("tombstone_unreadable", path=str(self._path), line=number)
        return found

    def _keep(self, tombstones: Mapping[UUID, UUID]) -> None:
        missing = {org_id: tombstones[org_id] for org_id in tombstones.keys() - self._read().keys()}
        if not missing:
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        lines = [
            json.dumps({"org_id": str(org_id), "reference": str(reference), "at": at}) + "\n"
            for org_id, reference in missing.items()
        ]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            # A line that a crash cut short ends here, or it would swallow the next.
            cut_short = file.seek(0, os.SEEK_END) > 0 and _last_byte(descriptor) != b"\n"
            file.write(("\n" * cut_short + "".join(lines)).encode())
            os.fsync(descriptor)
        _sync(self._path.parent)


def _last_byte(descriptor: int) -> bytes:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
