"""How the server's own user gets through, and nobody else does."""

import errno
import os
import pwd
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bwenge.kit.embedded_postgres import PostgresFailedToStart, access, account
from bwenge.kit.embedded_postgres.access import READ, SEARCH, Entry, Tag, grant, merge
from bwenge.kit.embedded_postgres.account import Account, ensure_reachable, server_account

NO_ID = 0xFFFFFFFF
UID = 1234
OTHER_UID = 1235

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
bits = st.integers(0, 7)


@st.composite
def access_lists(draw: st.DrawFn) -> list[Entry]:
    """Lists that the kernel would accept: named entries only together with a mask."""
    named = [
        Entry(tag, subject, draw(bits))
        for tag in (Tag.USER, Tag.GROUP)
        for subject in draw(st.sets(st.sampled_from([UID, OTHER_UID])))
    ]
    masked = bool(named) or draw(st.sampled_from([True, False]))
    mask = [Entry(Tag.MASK, NO_ID, draw(bits))] if masked else []
    base = [Entry(tag, NO_ID, draw(bits)) for tag in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER)]
    return sorted(named + mask + base)


def effective(entries: list[Entry]) -> dict[tuple[Tag, int], int]:
    """What each entry grants in fact (acl(5), "access check algorithm")."""
    mask = next((entry.permissions for entry in entries if entry.tag is Tag.MASK), 7)
    masked = (Tag.USER, Tag.GROUP_OBJ, Tag.GROUP)
    return {
        (entry.tag, entry.id): entry.permissions & (mask if entry.tag in masked else 7)
        for entry in entries
        if entry.tag is not Tag.MASK
    }


@given(access_lists(), bits)
def test_merging_changes_the_effective_rights_of_one_user_only(entries: list[Entry], permissions: int) -> None:
    before = effective(entries)
    after = effective(merge(entries, uid=UID, permissions=permissions))
    ours = (Tag.USER, UID)
    assert after.pop(ours) == before.pop(ours, 0) | permissions
    assert after == before


@given(access_lists(), bits)
def test_merged_lists_are_in_the_order_the_kernel_demands(entries: list[Entry], permissions: int) -> None:
    merged = merge(entries, uid=UID, permissions=permissions)
    assert merged == sorted(merged)
    assert len({(entry.tag, entry.id) for entry in merged}) == len(merged)


def test_the_kernel_gives_back_what_was_granted(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    grant(tmp_path, SEARCH, uid=UID)
    grant(tmp_path, READ, uid=OTHER_UID)
    assert access._read(tmp_path) == [
        Entry(Tag.USER_OBJ, NO_ID, 7),
        Entry(Tag.USER, UID, SEARCH),
        Entry(Tag.USER, OTHER_UID, READ),
        Entry(Tag.GROUP_OBJ, NO_ID, 5),
        Entry(Tag.MASK, NO_ID, 5),
        Entry(Tag.OTHER, NO_ID, 0),
    ]


def test_without_access_lists_the_directory_is_opened_for_search_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "setxattr", refuse)
    tmp_path.chmod(0o700)
    with capture_logs() as logs:
        grant(tmp_path, SEARCH, uid=UID)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o701
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("access_granted_to_all_users", "warning")]


def test_another_failure_to_grant_is_not_taken_for_a_missing_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setxattr", refuse)
    tmp_path.chmod(0o700)
    with pytest.raises(PermissionError):
        grant(tmp_path, SEARCH, uid=UID)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.fixture
def stranger() -> Account:
    """An account without any right of its own in the tests' directories."""
    return Account(uid=54321, gid=54321)


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A tree as a package installer with umask 077 leaves it, below a directory that needs no grant."""
    directory = tmp_path / "closed" / "open" / "pginstall"
    for part in ("bin", "lib", "share"):
        (directory / part).mkdir(parents=True)
        (directory / part / "file").write_text("content")
        (directory / part / "file").chmod(0o700 if part == "bin" else 0o600)
        (directory / part).chmod(0o700)
    (tmp_path / "closed" / "open").chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    return directory


@needs_root
def test_an_unreadable_installation_becomes_usable_for_the_server_user(
    installation: Path, tmp_path: Path, stranger: Account
) -> None:
    ensure_reachable(stranger, tmp_path / "home", installation=installation)
    wanted = {installation / "bin" / "file": READ | SEARCH, installation / "share" / "file": READ}
    assert account._unusable(stranger, wanted) == {}


@needs_root
def test_only_the_paths_that_bar_the_way_are_granted(installation: Path, tmp_path: Path, stranger: Account) -> None:
    ensure_reachable(stranger, tmp_path / "home", installation=installation)
    granted = {path for path in (tmp_path, *tmp_path.rglob("*")) if os.listxattr(path)}
    assert tmp_path / "closed" in granted
    assert tmp_path / "closed" / "open" not in granted


@needs_root
def test_grants_do_not_open_the_way_for_a_third_user(installation: Path, tmp_path: Path, stranger: Account) -> None:
    ensure_reachable(stranger, tmp_path / "home", installation=installation)
    third = Account(uid=54322, gid=54322)
    assert tmp_path / "closed" in account._unusable(third, {tmp_path / "closed": SEARCH})
    assert installation / "lib" / "file" in account._unusable(third, {installation / "lib" / "file": READ})


@needs_root
def test_a_grant_without_effect_is_an_error_that_names_the_path(
    installation: Path, tmp_path: Path, stranger: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "grant", lambda *_, **__: None)
    with pytest.raises(PostgresFailedToStart, match="pytest"):
        ensure_reachable(stranger, tmp_path / "home", installation=installation)


@needs_root
def test_a_system_user_that_cannot_be_created_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "SYSTEM_USER", "not:a:name")
    with pytest.raises(PostgresFailedToStart, match=r"could not be created.*DATABASE_URL"):
        server_account(tmp_path / "home")


@needs_root
def test_root_runs_an_existing_cluster_as_its_owner(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    assert server_account(tmp_path) == Account(nobody.pw_uid, nobody.pw_gid)


@needs_root
def test_an_ordinary_user_is_told_whose_cluster_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(PostgresFailedToStart, match="belongs to user id 0"):
        server_account(tmp_path)
