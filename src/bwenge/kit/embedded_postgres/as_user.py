"""A script for a fresh interpreter (`python -I -S as_user.py ...`): becomes another user, then acts.

    as_user.py run UID GID PARENT_PID DEATH_SIGNAL PROGRAM [ARGUMENT ...]
    as_user.py probe UID GID < JSON {path: permission bits wanted} > JSON [paths that this user cannot use so]

It imports nothing of this package, and everything before it changes user, because that user may not be able to read
the interpreter's files. It exists because a `preexec_fn` may deadlock in a process with threads, and because the
kernel clears the parent-death signal when credentials change, so that it must be set between the two and exec.
"""

import ctypes
import json
import os
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _become(uid: int, gid: int) -> None:
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def _run(parent_pid: int, death_signal: int, command: list[str]) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # A parent that died before the call above sends no signal.
    if os.getppid() != parent_pid:
        sys.exit("the parent process has ended")
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606 - the caller chose the program; no shell is wanted


def _main(arguments: list[str]) -> None:
    action, uid, gid, *rest = arguments
    paths: dict[str, int] = json.load(sys.stdin) if action == "probe" else {}
    _become(int(uid), int(gid))
    if action == "run":
        _run(int(rest[0]), int(rest[1]), rest[2:])
    # After setuid the real user is this one, and it is the kernel that answers: lists, mounts and all.
    json.dump([path for path, permissions in paths.items() if not os.access(path, permissions)], sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1:])
