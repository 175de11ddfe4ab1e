"""The files of one cluster, and how they come to be."""

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from bwenge.kit.embedded_postgres.account import Account
from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart
from bwenge.kit.embedded_postgres.process import Installation, last_lines, run_to_end

_INITDB_SECONDS: Final = 300


@dataclass(frozen=True)
class Cluster:
    """Paths below `home`, a resolved directory of mode 0700 that the server's account owns.

    `cluster` appears by one rename after initdb has ended, so its existence means that it is whole.
    """

    home: Path
    account: Account

    @cached_property
    def directory(self) -> Path:
        return self.home / "cluster"

    @cached_property
    def unfinished(self) -> Path:
        return self.home / "cluster.unfinished"

    @cached_property
    def logs(self) -> Path:
        return self.home / "log"

    @cached_property
    def postmaster_file(self) -> Path:
        return self.directory / "postmaster.pid"

    def make_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.account.own(self.home)

    def postmaster_pid(self) -> int | None:
        """The process that the lock file of PostgreSQL names, whether or not it lives."""
        lines = self._postmaster_lines()
        return abs(int(lines[0])) if lines and lines[0].strip().lstrip("-").isdigit() else None

    def is_ready(self, pid: int) -> bool:
        """Whether the postmaster with this id says that it accepts connections (line 8 of its lock file)."""
        lines = self._postmaster_lines()
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _postmaster_lines(self) -> list[str]:
        try:
            return self.postmaster_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []


def initialise(cluster: Cluster, installation: Installation, *, password: str, lock: int) -> None:
    """Make the cluster unless it is there: durable, with checksums, and with passwords demanded on every way in.

    Raises:
        PostgresFailedToStart: initdb failed, or the cluster was made by another major version.
    """
    if cluster.directory.exists():
        _demand_version(cluster, installation)
        return
    password_file = cluster.home / "initdb.password"
    try:
        _write_for_account(password_file, password + "\n", account=cluster.account)
        ended = run_to_end(
            [installation.program("initdb"), *_initdb_options(cluster.unfinished, password_file)],
            account=cluster.account,
            inherit=lock,
            timeout=_INITDB_SECONDS,
        )
    finally:
        password_file.unlink(missing_ok=True)
    if ended.returncode != 0:
        shutil.rmtree(cluster.unfinished, ignore_errors=True)
        raise PostgresFailedToStart(f"initdb failed in {cluster.home}", log=last_lines(ended.stdout))
    cluster.unfinished.rename(cluster.directory)
    _sync_directory(cluster.home)


def _initdb_options(directory: Path, password_file: Path) -> list[str]:
    return [
        f"--pgdata={directory}",
        "--username=postgres",
        f"--pwfile={password_file}",
        "--auth-local=scram-sha-256",
        "--auth-host=scram-sha-256",
        "--data-checksums",
        "--encoding=UTF8",
        "--locale=C",
        # Unlike a locale of the C library, this one sorts the same on every machine and after every upgrade.
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]


def _write_for_account(path: Path, text: str, *, account: Account) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    account.own(path)


def _demand_version(cluster: Cluster, installation: Installation) -> None:
    version_file = cluster.directory / "PG_VERSION"
    version = version_file.read_text(encoding="ascii").strip() if version_file.exists() else "no known version"
    if version != installation.major_version:
        raise PostgresFailedToStart(
            f"The cluster in {cluster.directory} was made by PostgreSQL {version}, and this is "
            f"{installation.major_version}: restore a backup into a new data directory"
        )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
