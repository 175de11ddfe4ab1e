"""POSIX access control lists: the smallest grant that lets one more user use a path.

The lists are read and written as the kernel's extended attribute (linux/posix_acl_xattr.h, version 2), since the
`setfacl` program is often not installed. Semantics: acl(5).
"""

import errno
import os
import struct
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

import structlog

READ: Final = 4
SEARCH: Final = 1  # "execute" for a file

_ATTRIBUTE: Final = "system.posix_acl_access"
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_VERSION: Final = 2
_NO_ID: Final = 0xFFFFFFFF

_log = structlog.get_logger(__name__)


class Tag(IntEnum):
    USER_OBJ = 0x01
    USER = 0x02
    GROUP_OBJ = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHER = 0x20


_MASKED: Final = frozenset({Tag.USER, Tag.GROUP_OBJ, Tag.GROUP})


class Entry(NamedTuple):
    """One line of a list. Entries are kept in the order of tag, then id, which the kernel demands."""

    tag: Tag
    id: int
    permissions: int


def merge(entries: Sequence[Entry], *, uid: int, permissions: int) -> list[Entry]:
    """The list with `permissions` added for the user, and everyone else's effective rights as they were.

    Where the mask must widen, the other entries under it are first cut to what it let through, for a right that it
    withheld from them would otherwise come to life.
    """
    masks = [entry.permissions for entry in entries if entry.tag is Tag.MASK]
    if masks and permissions & ~masks[0] == 0:
        others = {(entry.tag, entry.id): entry.permissions for entry in entries}
    else:
        limit = masks[0] if masks else 0o7
        others = {
            (entry.tag, entry.id): entry.permissions & limit if entry.tag in _MASKED else entry.permissions
            for entry in entries
            if entry.tag is not Tag.MASK
        }
    ours = (Tag.USER, uid)
    others[ours] = others.get(ours, 0) | permissions
    if (Tag.MASK, _NO_ID) not in others:
        mask = 0
        for (tag, _), granted in others.items():
            mask |= granted if tag in _MASKED else 0
        others[Tag.MASK, _NO_ID] = mask
    return sorted(Entry(tag, subject, granted) for (tag, subject), granted in others.items())


def grant(path: Path, permissions: int, *, uid: int) -> None:
    """Add the permissions for this user only; where the filesystem has no lists, for all others, with a warning."""
    try:
        _write(path, merge(_read(path), uid=uid, permissions=permissions))
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.EOPNOTSUPP}:
            raise
        path.chmod(path.stat().st_mode & 0o7777 | permissions)
        _log.warning("access_granted_to_all_users", path=str(path), permissions=oct(permissions))
    else:
        _log.info("access_granted", path=str(path), permissions=oct(permissions), uid=uid)


def _read(path: Path) -> list[Entry]:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "no access control lists of this kind on this platform", str(path))
    try:
        value = os.getxattr(path, _ATTRIBUTE)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        mode = path.stat().st_mode
        return [
            Entry(Tag.USER_OBJ, _NO_ID, mode >> 6 & 7),
            Entry(Tag.GROUP_OBJ, _NO_ID, mode >> 3 & 7),
            Entry(Tag.OTHER, _NO_ID, mode & 7),
        ]
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise OSError(errno.ENOTSUP, "unknown version of access control list", str(path))
    return [Entry(Tag(tag), subject, granted) for tag, granted, subject in _ENTRY.iter_unpack(value[_HEADER.size :])]


def _write(path: Path, entries: Sequence[Entry]) -> None:
    if sys.platform == "linux":
        value = b"".join(_ENTRY.pack(entry.tag, entry.permissions, entry.id) for entry in entries)
        os.setxattr(path, _ATTRIBUTE, _HEADER.pack(_VERSION) + value)
