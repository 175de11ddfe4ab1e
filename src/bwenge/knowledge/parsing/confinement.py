"""What a parsing process gives up before it opens a file: network, new processes, privileges, unbounded resources.

Everything is asked of the kernel directly, for the process must start fast and hold no other library. On systems
other than Linux only the resource limits hold.
"""

import ctypes
import os
import platform
import resource
import signal
import sys
from enum import StrEnum
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2

# linux/bpf_common.h, linux/seccomp.h
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_OFFSET_OF_NUMBER: Final = 0
_OFFSET_OF_ARCHITECTURE: Final = 4
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
_KILL: Final = 0x80000000
_X32_NUMBERS: Final = 0x40000000

# Audit architecture (linux/audit.h) and the numbers of: socket, connect, socketpair, execve, execveat, ptrace,
# process_vm_readv, process_vm_writev, kill, io_uring_setup, bpf.
_FILTERS: Final = {
    "x86_64": (0xC000003E, (41, 42, 53, 59, 322, 101, 310, 311, 62, 425, 321)),
    "aarch64": (0xC00000B7, (198, 203, 199, 221, 281, 117, 270, 271, 129, 425, 280)),
}


class Isolation(StrEnum):
    """What keeps a parsing process from the network. A namespace leaves Unix sockets in reach, seccomp does not."""

    NAMESPACE_AND_SECCOMP = "namespace+seccomp"
    NAMESPACE = "namespace"
    SECCOMP = "seccomp"
    NONE = "none"


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def confine(*, parent_pid: int) -> Isolation:
    """Gives up network, execution, tracing and privileges, as far as the kernel lets us, and ties us to the parent.

    Raises:
        SystemExit: The parent is gone already.
    """
    if sys.platform != "linux":
        return Isolation.NONE
    libc = ctypes.CDLL(None, use_errno=True)
    in_namespace = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    # After unshare, which may clear it; and a parent that died before it was set would never be noticed.
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit(1)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    if _install_filter(libc):
        return Isolation.NAMESPACE_AND_SECCOMP if in_namespace else Isolation.SECCOMP
    return Isolation.NAMESPACE if in_namespace else Isolation.NONE


def limit_resources(*, cpu_seconds: int, address_space: int, file_bytes: int, open_files: int) -> None:
    """Soft limit of CPU time kills by SIGXCPU, which the parent understands; the hard one is a little later."""
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 5)
    _limit(resource.RLIMIT_FSIZE, file_bytes, file_bytes)
    _limit(resource.RLIMIT_NOFILE, open_files, open_files)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, address_space, address_space)
        _limit(resource.RLIMIT_NPROC, 0, 0)


def _limit(kind: int, soft: int, hard: int) -> None:
    """Lowers a limit; one that is lower already stays."""
    present = resource.getrlimit(kind)[1]
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(kind, (soft, hard))


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> bool:
    zero = ctypes.c_ulong(0)
    return bool(libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) == 0)


def _install_filter(libc: ctypes.CDLL) -> bool:
    """A seccomp filter that answers EPERM to the listed calls, and kills for another architecture's calls."""
    if platform.machine() not in _FILTERS:
        return False
    instructions = _filter_program(*_FILTERS[platform.machine()])
    array = (_Instruction * len(instructions))(*instructions)
    program = _Program(len(instructions), array)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    return bool(libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(program)) == 0)


def _filter_program(architecture: int, refused: tuple[int, ...]) -> list[_Instruction]:
    count = len(refused)
    # Jumps count the instructions to skip; the three returns come after all comparisons.
    checks = [_Instruction(_JUMP_IF_EQUAL, count - index, 0, number) for index, number in enumerate(refused)]
    return [
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_OF_ARCHITECTURE),
        _Instruction(_JUMP_IF_EQUAL, 0, count + 4, architecture),
        _Instruction(_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
        _Instruction(_JUMP_IF_AT_LEAST, count + 1, 0, _X32_NUMBERS),
        *checks,
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _REFUSE),
        _Instruction(_RETURN, 0, 0, _KILL),
    ]
