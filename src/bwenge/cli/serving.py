"""`bwenge up` in both topologies, and `bwenge migrate`."""

import asyncio
import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from sqlalchemy.exc import OperationalError

from bwenge.apps.all_in_one import DatabaseDied, serve
from bwenge.apps.demo_data import FIRST_QUESTION, Ready
from bwenge.apps.local_redis import NoRedis, require_redis
from bwenge.apps.local_split import LocalSplit, ServicesNotReady, bind_ports
from bwenge.apps.resources import Announce, DatabaseRefused, NoDatabase, SchemaTooOld, load_embedder, open_server
from bwenge.apps.secrets import DamagedSecret, Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.signing_keys import DamagedKeyCount, SigningKeys
from bwenge.apps.topology import GATEWAY, SERVICES, port_of
from bwenge.apps.web_server import PortTaken, bind
from bwenge.cli.directories import require_keys
from bwenge.cli.failures import CommandFailed
from bwenge.kit.data_directory import DataDirectoryInUse
from bwenge.kit.embedded_postgres import PostgresFailedToStart
from bwenge.kit.telemetry import configure_logging, rotating_file

OPEN_FILES: Final = 65_536
NO_ANSWER: Final = "PostgreSQL at DATABASE_URL does not answer or refuses the login."


def run_platform(settings: Settings, output: Console) -> None:
    """Serve until interrupted.

    Raises:
        CommandFailed: the data directory or the port is taken, or PostgreSQL does not start, answer or stay.
    """
    allow_connections()
    with told_plainly(), closing(bind(settings.host, settings.port)) as listener:
        _serve(settings, listener, output)
    output.print("Stopped.")


def allow_connections() -> None:
    """Lift the soft limit of open files, which many systems leave at 1,024: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    # Where a system says that there is no limit and has one (macOS), the soft one stays.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _serve(settings: Settings, listener: socket.socket, output: Console) -> None:
    secrets = load_secrets(settings)
    log_as_configured(settings)
    announce = _announcing(output)
    output.print(f"Starting Bwenge OS in {settings.data_dir.resolve()}", markup=False)
    with open_server(settings, secrets, announce=announce) as server:
        embedder = load_embedder(settings, announce=announce)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                serve(
                    settings,
                    secrets,
                    listener=listener,
                    server=server,
                    embedder=embedder,
                    announce=announce,
                    on_ready=lambda ready: _welcome(ready, settings, output),
                )
            )


def run_split(settings: Settings, output: Console) -> None:
    """Run the services, a worker and beat as processes, until interrupted.

    Raises:
        CommandFailed: as `run_platform`; or there is no Redis, or a service does not become ready.
    """
    allow_connections()
    with told_plainly(), closing(bind_ports(settings)) as listener:
        if settings.redis_url is None:
            require_redis()
        secrets = load_secrets(settings)
        log_as_configured(settings)
        announce = _announcing(output)
        output.print(f"Starting Bwenge OS in {settings.data_dir.resolve()}", markup=False)
        with open_server(settings, secrets, announce=announce) as server:
            split = LocalSplit(settings, secrets, server, listener=listener)

            def on_ready(ready: Ready) -> None:
                _list_services(settings, split, output)
                _welcome(ready, settings, output)

            asyncio.run(split.run(announce=announce, on_ready=on_ready))
    output.print("Stopped.")


def _list_services(settings: Settings, split: LocalSplit, output: Console) -> None:
    output.print(f"\nServices, each with its log in {split.logs}:", markup=False)
    for name in (GATEWAY, *SERVICES):
        output.print(f"  {name:10} port {port_of(name, base_port=settings.port)}", markup=False)


def _announcing(output: Console) -> Announce:
    return lambda step: output.print(f"  {step}", style="dim")


def migrate_database(settings: Settings) -> bool:
    """Bring the schema up to date. Returns whether it changed."""
    secrets = load_secrets(settings)
    log_as_configured(settings)
    with told_plainly(), open_server(settings, secrets, announce=lambda _step: None) as server:
        return server.schema_changed


def rotate_signing_key(settings: Settings) -> datetime:
    """Returns until when the last key verifies."""
    require_keys(settings)
    secrets = load_secrets(settings)
    with told_plainly():
        return SigningKeys(secrets, settings.data_dir).rotate()


def load_secrets(settings: Settings) -> Secrets:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Secrets.load(settings)
    except DamagedSecret as error:
        raise CommandFailed(str(error)) from error
    except OSError as error:
        raise CommandFailed(f"The data directory {settings.data_dir} cannot be used: {error.strerror}.") from error


@contextmanager
def told_plainly() -> Iterator[None]:
    try:
        yield
    except (
        DamagedKeyCount,
        DataDirectoryInUse,
        PostgresFailedToStart,
        DatabaseRefused,
        PortTaken,
        DatabaseDied,
        NoDatabase,
        NoRedis,
        SchemaTooOld,
        ServicesNotReady,
    ) as error:
        raise CommandFailed(str(error)) from error
    except OperationalError as error:
        raise CommandFailed(NO_ANSWER) from error


def log_as_configured(settings: Settings) -> None:
    """JSON lines on standard error for a server's collector; beside the data for a person at a terminal."""
    if settings.env != "development":
        configure_logging(level=settings.log_level)
        return
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = settings.data_dir / "logs"
    folder.mkdir(mode=0o700, exist_ok=True)
    configure_logging(rotating_file(folder / "bwenge.log"), level=settings.log_level)


def _welcome(ready: Ready, settings: Settings, output: Console) -> None:
    output.print(f"\n[bold green]Bwenge OS is ready[/bold green] at {settings.url} (API: {settings.url}/docs)")
    if ready.demo is None:
        output.print("Register the first organisation as README.md shows: POST /auth/register", markup=False)
        return
    if ready.demo_is_new:
        output.print("\nDemo accounts (shown once; kept in demo.json in the data directory):")
        for role in ("owner", "learner"):
            account = ready.demo[role]
            output.print(f"  {role:8} {account['identifier']}   {account['password']}")
    output.print("\nNow ask Gabriel, the mathematics tutor, from another terminal in this folder:\n")
    output.print(f'  {_program()} ask "{FIRST_QUESTION}"{_data_dir_option(settings)}\n', style="bold", markup=False)
    output.print("Or about a document of your own:\n")
    output.print(
        f'  {_program()} ask --file BOOK.pdf "A question that it answers"{_data_dir_option(settings)}\n', markup=False
    )
    output.print("Stop with Ctrl-C.", style="dim")


def _program() -> str:
    """How this very command was called, in words that work again in this folder."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return f"{shlex.quote(_from_here(Path(sys.executable)))} -m bwenge"
    found = shutil.which(path.name)
    is_on_path = found is not None and Path(found).absolute() == path.absolute()
    from_here = _from_here(path)
    return path.name if is_on_path and Path(from_here).is_absolute() else shlex.quote(from_here)


def _from_here(path: Path) -> str:
    """The path below this folder, or the whole of it where it lies elsewhere."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path.absolute())


def _data_dir_option(settings: Settings) -> str:
    default = Settings.model_fields["data_dir"].default
    return "" if settings.data_dir == default else f" --data-dir {shlex.quote(str(settings.data_dir))}"
