"""Exclusive use of a data directory by one process."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class DataDirectoryInUse(RuntimeError):
    """Another process works in the data directory.

    Attributes:
        directory: The directory both processes want.
        pid: The holder, or None where it has not written its id yet.
    """

    def __init__(self, directory: Path, *, pid: int | None) -> None:
        self.directory = directory
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"The data directory {directory} is in use by {holder}; stop it or choose another directory")


class DataDirectoryLock:
    """An flock on a file inside the directory, held until `release` or the end of the process.

    The kernel frees it however the process ends. A child made by a bare fork shares the lock and holds it as long as
    it lives; a child made by fork and exec does not. The file itself stays: removing it would let two processes hold
    locks on two files of one name.
    """

    def __init__(self, directory: Path, *, name: str = "process.lock") -> None:
        self.directory = directory
        self._path = directory / name
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting; a missing directory is made with mode 0700.

        Raises:
            DataDirectoryInUse: Another holder exists, in this process or another.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise DataDirectoryInUse(self.directory, pid=int(content) if content.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock up; without effect where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
