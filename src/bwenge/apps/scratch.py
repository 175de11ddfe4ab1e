"""Folders for the time of a process's life, below one that many processes share.

Each is held by an flock, which the kernel frees however the process ends; whoever comes next removes what the dead have
left behind.
"""

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PREFIX: Final = "scratch-"
_LOCK: Final = ".lock"


class Scratch:
    """A folder of this process's own, empty at first, removed with all that is in it by `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def claim(cls, parent: Path) -> Self:
        """Make a folder below `parent`, after removing those whose processes are gone."""
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_dead(parent)
        while True:
            path = parent / f"{_PREFIX}{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
            descriptor = _lock(path)
            # Between the two, somebody else may have taken it for a dead one's.
            if descriptor is not None and (path / _LOCK).exists():
                return cls(path, descriptor)

    def release(self) -> None:
        if self._descriptor is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def remove_dead(parent: Path) -> None:
    """Remove the folders below `parent` that no living process holds, and nothing else."""
    for path in parent.glob(f"{_PREFIX}*"):
        _remove_unheld(path)


def remove_all_but_held(parent: Path) -> None:
    """Remove everything below `parent` but the folders that living processes hold."""
    remove_dead(parent)
    for path in parent.iterdir():
        if path.name.startswith(_PREFIX):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_unheld(path: Path) -> None:
    descriptor = _lock(path)
    if descriptor is None:
        return
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)


def _lock(path: Path) -> int | None:
    """The descriptor of the folder's lock; None where another process holds it, or the folder is gone."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
