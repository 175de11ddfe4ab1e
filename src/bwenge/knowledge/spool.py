"""Work on its way from one stage to the next, kept on disk, so that memory holds a piece of it and not the whole."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Spool(Generic[T]):
    """Pieces in the order in which they were added, in a file without a name, which nobody else can open."""

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115  # closed with the spool
        self._count = 0

    def add(self, piece: T) -> None:
        """Blocks while it writes."""
        pickle.dump(piece, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self._count += 1

    async def pieces(self) -> AsyncIterator[T]:
        """All that was added, from the first on."""
        await asyncio.to_thread(self._file.seek, 0)
        for _ in range(self._count):
            yield await asyncio.to_thread(pickle.load, self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
