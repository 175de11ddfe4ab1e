"""Server settings for one small machine that the platform shares with its own database."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the kernel's shared memory, only looked at
_PARALLEL_QUERY_ROOM: Final = 256 * 2**20

_SETTINGS: Final[Mapping[str, str]] = {
    # Memory: about 50 MB shared, and little per connection, since pools are small.
    "shared_buffers": "48MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "512MB",
    "max_connections": "100",
    # Fewer idle processes: no read-ahead workers, no replication launcher, two vacuum workers at most.
    "io_method": "sync",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_logical_replication_workers": "0",
    "autovacuum": "on",
    "autovacuum_worker_slots": "2",
    "autovacuum_max_workers": "2",
    # Durability is not traded. Nothing replicates from here, so the log carries only what crash recovery needs.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    # Queries are short and pages are on solid-state disks or in the page cache.
    "jit": "off",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    # One file for each day of the week. Neither statements nor the DETAIL of an error are written, for both quote rows.
    "logging_collector": "on",
    "log_destination": "stderr",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
}


def server_settings(overrides: Mapping[str, str], *, log_directory: Path, socket_directory: Path) -> dict[str, str]:
    """Every setting the server is started with; none is left to a file that an older release wrote."""
    return {
        **_SETTINGS,
        "dynamic_shared_memory_type": _dynamic_shared_memory_type(),
        "log_directory": str(log_directory),
        **overrides,
        # Not for overriding: together they are what keeps other users of the machine out.
        "listen_addresses": "",
        "unix_socket_directories": str(socket_directory),
        "unix_socket_permissions": "0700",
    }


def _dynamic_shared_memory_type() -> str:
    # Containers often have 64 MB of /dev/shm, which one parallel index build exhausts; System V memory has no such cap.
    if sys.platform != "linux":
        return "posix"
    try:
        return "posix" if shutil.disk_usage(_SHARED_MEMORY).free >= _PARALLEL_QUERY_ROOM else "sysv"
    except FileNotFoundError:
        return "sysv"
