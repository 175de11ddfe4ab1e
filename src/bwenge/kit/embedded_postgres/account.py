"""The operating-system user that runs the server, and its way to the files it needs.

PostgreSQL refuses to run as root. A root process therefore runs it as a system user of its own, which gets search
permission on exactly the directories that bar its way.
"""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bwenge.kit.embedded_postgres.access import READ, SEARCH, grant
from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart

SYSTEM_USER: Final = "bwenge-postgres"
AS_USER: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("as_user.py")))


@dataclass(frozen=True)
class Account:
    """Ids that the server runs under."""

    uid: int
    gid: int

    @property
    def is_own(self) -> bool:
        """Whether it is the account of this process, so that nothing has to be handed over."""
        return self.uid == os.geteuid()

    def own(self, path: Path) -> None:
        if not self.is_own:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account(home: Path) -> Account:
    """This process's own account; for root the owner of an existing cluster, else the system user, made if missing."""
    if os.geteuid() != 0:
        _demand_own(home)
        return Account(os.geteuid(), os.getegid())
    if home.is_dir() and home.stat().st_uid != 0:
        status = home.stat()
        return Account(status.st_uid, status.st_gid)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _create_system_user()
    return Account(entry.pw_uid, entry.pw_gid)


def _demand_own(home: Path) -> None:
    if home.is_dir() and home.stat().st_uid != os.geteuid():
        raise PostgresFailedToStart(
            f"The cluster in {home} belongs to user id {home.stat().st_uid}, and this process runs as {os.geteuid()}: "
            "start it as that user or as root"
        )


def _create_system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    complaint = ""
    try:
        # Its exit status is not asked: of two processes that start together, one finds the user made by the other.
        complaint = subprocess.run(  # noqa: S603 - constant arguments
            [*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stderr.strip()
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.TimeoutExpired, KeyError) as error:
        raise PostgresFailedToStart(
            f"PostgreSQL does not run as root, and its system user {SYSTEM_USER} could not be created "
            f"({complaint or error}): create it, start as an ordinary user, or set DATABASE_URL"
        ) from error


def ensure_reachable(account: Account, *directories: Path, installation: Path) -> None:
    """Grant what is missing on the way to the directories (resolved paths) and inside the installation.

    Raises:
        PostgresFailedToStart: The user is still kept out, or the missing permission cannot be given.
    """
    if not account.is_own:
        _open_up(account, _ways(*directories, installation) | dict(_contents(installation)))


def _open_up(account: Account, wanted: Mapping[Path, int]) -> None:
    granted: set[Path] = set()
    while barred := _unusable(account, wanted):
        # Below a barred directory everything looks barred, so only the topmost are opened before the next look.
        topmost = [path for path in barred if barred.keys().isdisjoint(path.parents)]
        if not granted.isdisjoint(topmost):
            raise _kept_out(account, topmost[0])
        for path in topmost:
            try:
                grant(path, barred[path], uid=account.uid)
            except OSError as error:
                raise _kept_out(account, path) from error
        granted.update(topmost)


def _kept_out(account: Account, path: Path) -> PostgresFailedToStart:
    return PostgresFailedToStart(
        f"User id {account.uid}, which runs PostgreSQL, cannot use {path}: "
        "move the data directory or the installation to where it can"
    )


def _ways(*targets: Path) -> dict[Path, int]:
    return {parent: SEARCH for target in targets for parent in target.parents}


def _contents(installation: Path) -> Iterator[tuple[Path, int]]:
    yield installation, READ | SEARCH
    for part in ("bin", "lib", "share"):
        for directory, _, names in os.walk(installation / part):
            yield Path(directory), READ | SEARCH
            yield from ((Path(directory, name), READ | SEARCH if part == "bin" else READ) for name in names)


def _unusable(account: Account, wanted: Mapping[Path, int]) -> dict[Path, int]:
    """Those of the paths that the kernel refuses to this user, found by trying as that user."""
    probe = subprocess.run(  # noqa: S603 - our own script
        [*AS_USER, "probe", str(account.uid), str(account.gid)],
        input=json.dumps({str(path): permissions for path, permissions in wanted.items()}),
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    return {path: wanted[path] for path in map(Path, json.loads(probe.stdout))}
