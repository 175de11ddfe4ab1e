"""Folders for the time of a process's life, below one that many processes share.

Each is held by an flock, which the kernel frees however the process ends; whoever comes next removes what the dead have
left behind.
"""

import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bwenge.kit.data_directory import DataDirectoryInUse, DataDirectoryLock

_PREFIX: Final = "scratch-"
_LOCK: Final = ".lock"


class Scratch:
    """A folder of this process's own, empty at first, removed with all that is in it by `release`."""

    def __init__(self, path: Path, lock: DataDirectoryLock) -> None:
        self.path = path
        self._lock: DataDirectoryLock | None = lock

    @classmethod
    def claim(cls, parent: Path) -> Self:
        """Make a folder below `parent`, after removing those whose processes are gone."""
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_dead(parent)
        while True:
            path = parent / f"{_PREFIX}{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
            lock = _locked(path)
            # Between the two, somebody else may have taken it for a dead one's.
            if lock is not None and (path / _LOCK).exists():
                return cls(path, lock)

    def release(self) -> None:
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.release()
            self._lock = None

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
    lock = _locked(path)
    if lock is not None:
        shutil.rmtree(path, ignore_errors=True)
        lock.release()


def _locked(path: Path) -> DataDirectoryLock | None:
    """The folder's lock; None where another process holds it, or the folder is gone or none."""
    lock = DataDirectoryLock(path, name=_LOCK)
    try:
        lock.acquire()
    except (DataDirectoryInUse, FileNotFoundError, FileExistsError):
        return None
    return lock
