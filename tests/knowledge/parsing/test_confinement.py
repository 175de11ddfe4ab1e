import os
import socket
import subprocess
import sys
from pathlib import Path

import bwenge
from bwenge.knowledge.parsing.confinement import Isolation

ROOT = Path(bwenge.__file__).resolve().parents[1]


def run_confined(code: str, *, prelude: str = "") -> list[str]:
    """Lines printed by `code` after confinement, of which the first is the isolation."""
    script = f"""
import os, resource, socket
from bwenge.knowledge.parsing.confinement import confine, limit_resources
{prelude}
print(confine(parent_pid=os.getppid()))
{code}
"""
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603  # our own interpreter and script
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_the_network_is_reached_only_where_no_isolation_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
try:
    socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=5)
    print("reached")
except OSError:
    print("refused")
"""
        isolation, outcome = run_confined(code)
    assert (outcome == "reached") is (Isolation(isolation) is Isolation.NONE)


def test_seccomp_refuses_unix_sockets_and_other_programs() -> None:
    code = """
for attempt in (lambda: socket.socket(socket.AF_UNIX), lambda: os.execv("/bin/true", ["true"])):
    try:
        attempt()
        print("allowed")
    except PermissionError:
        print("refused")
"""
    isolation, *outcomes = run_confined(code)
    expected = ["refused", "refused"] if "seccomp" in isolation else ["allowed"]
    assert outcomes == expected


def test_files_can_still_be_written(tmp_path: Path) -> None:
    target = tmp_path / "out"
    run_confined(f"open({str(target)!r}, 'w').write('done')")
    assert target.read_text() == "done"


def test_resources_are_bounded_and_a_lower_bound_stays() -> None:
    prelude = "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))"
    code = """
limit_resources(cpu_seconds=7, address_space=2**31, file_bytes=1000, open_files=64)
for kind in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):
    print(resource.getrlimit(kind)[0])
"""
    assert run_confined(code, prelude=prelude)[1:] == ["7", "1000", "20", "0"]


def test_a_process_whose_parent_is_gone_ends_at_once() -> None:
    code = "from bwenge.knowledge.parsing.confinement import confine; confine(parent_pid=1 << 22); print('alive')"
    done = subprocess.run(  # noqa: S603  # our own interpreter and script
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_this_process_is_not_confined_by_importing_the_module() -> None:
    with socket.socket(socket.AF_UNIX):
        assert os.getpid() > 0
