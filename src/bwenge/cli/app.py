"""The commands and their options. Exit codes: 0 well, 1 failed with a message, 2 wrong use."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape

from bwenge import __version__
from bwenge.apps.settings import Settings
from bwenge.cli.failures import CommandFailed

cli = typer.Typer(
    name="bwenge",
    help="Bwenge OS: AI personas that teach from a teacher's own material.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
output = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where everything is kept [BWENGE_DATA_DIR; default: data]")
]


def main() -> None:
    """Run the command line; every expected failure is one sentence on standard error."""
    try:
        cli()
    except CommandFailed as failure:
        _complain(str(failure))
        sys.exit(1)
    except ValidationError as error:
        for finding in error.errors():
            _complain(f"{_variable(finding['loc'])}: {finding['msg'].removeprefix('Value error, ')}")
        sys.exit(2)
    except SettingsError as error:
        _complain(f"{error}; it must be JSON")
        sys.exit(2)


def _complain(sentence: str) -> None:
    """Square brackets in the sentence are its own, and no markup."""
    errors.print(f"[red]bwenge:[/red] {escape(sentence)}")


def _variable(place: tuple[int | str, ...]) -> str:
    """The environment variable that a finding is about, and where inside its value."""
    if not place:
        return "settings"
    name, *inside = map(str, place)
    variable = name if name.isupper() else f"BWENGE_{name.upper()}"
    return ".".join([variable, *inside])


def _settings(**options: Any) -> Settings:
    """Options given on the command line go before the environment and `.env`."""
    return Settings(**{name: value for name, value in options.items() if value is not None})


def _version(wanted: bool) -> None:  # noqa: FBT001  # Typer's callback form
    if wanted:
        output.print(__version__)
        raise typer.Exit


@cli.callback()
def bwenge(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it, end")] = False,  # noqa: FBT002  # a flag
) -> None:
    """Take what stands before the command."""
    del version


@cli.command()
def up(
    *,
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [BWENGE_HOST; default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on [BWENGE_PORT; default: 8000]")
    ] = None,
    demo: Annotated[bool | None, typer.Option("--demo/--no-demo", help="Demo data on the first start")] = None,
    split: Annotated[
        bool, typer.Option("--split", help="As eight services, a worker and beat, over Redis")
    ] = False,  # a flag
    base_port: Annotated[
        int | None, typer.Option(min=1, max=65528, help="With --split: the gateway's port; the services' follow it")
    ] = None,
) -> None:
    """Start the whole platform, by default in one process with everything embedded."""
    from bwenge.cli.serving import run_platform, run_split  # noqa: PLC0415  # `ask` does not wait for a server's imports

    if base_port is not None and not split:
        raise typer.BadParameter("belongs to --split", param_hint="--base-port")
    settings = _settings(data_dir=data_dir, host=host, port=base_port or port, demo=demo)
    if split:
        run_split(settings, output)
    else:
        run_platform(settings, output)


@cli.command()
def serve(
    *,
    service: Annotated[str, typer.Argument(help="gateway, auth, ingest, persona, chat, 3d, analytics or payments")],
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on [default: 8000 for the gateway, then by 1]")
    ] = None,
    socket: Annotated[
        int | None, typer.Option(hidden=True, help="A bound socket that was inherited, in place of host and port")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Run one service of the platform, on the PostgreSQL server of DATABASE_URL."""
    from bwenge.cli.services import run_service  # noqa: PLC0415  # as above

    run_service(_settings(data_dir=data_dir), service, host=host, port=port, inherited=socket)


@cli.command()
def healthcheck(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where the process listens [BWENGE_PORT]")] = None,
) -> None:
    """End well if the process on this machine's port is alive: for containers."""
    from bwenge.cli.health import require_health  # noqa: PLC0415  # as above

    require_health(port or _settings().port)


@cli.command()
def worker(
    queues: Annotated[
        str | None,
        typer.Option(help="Comma list of extraction, transcription, embedding, reports, maintenance [default: all]"),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="Jobs at once [default: as many as processors]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Do the jobs of a platform whose services run apart; needs DATABASE_URL and REDIS_URL."""
    from bwenge.cli.working import parse_queues, work  # noqa: PLC0415  # as above

    try:
        chosen = parse_queues(queues)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--queues") from error
    raise typer.Exit(work(_settings(data_dir=data_dir), output, queues=chosen, concurrency=concurrency))


@cli.command()
def beat(data_dir: DataDir = None) -> None:
    """Keep the schedule of a platform whose services run apart; needs DATABASE_URL and REDIS_URL."""
    from bwenge.cli.working import keep_time  # noqa: PLC0415  # as above

    keep_time(_settings(data_dir=data_dir), output)


@cli.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the present schema and stop."""
    from bwenge.cli.serving import migrate_database  # noqa: PLC0415  # as above

    changed = migrate_database(_settings(data_dir=data_dir))
    output.print("The schema was brought up to date." if changed else "The schema is up to date.")


@cli.command("create-operator")
def create_operator(
    email: Annotated[str, typer.Argument(help="The email address that the operator logs in with")],
    name: Annotated[str | None, typer.Option(help="The operator's name [default: what stands before the @]")] = None,
    password_stdin: Annotated[  # noqa: FBT002  # a flag
        bool, typer.Option("--password-stdin", help="Take the password from the first line of standard input")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make an account of the platform's staff, whether the platform runs or not."""
    from bwenge.cli.operators import make_operator  # noqa: PLC0415  # as above

    def ask_password() -> str:
        if password_stdin:
            return sys.stdin.readline().rstrip("\r\n")
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))

    name = name or email.partition("@")[0]
    make_operator(_settings(data_dir=data_dir), email=email, name=name, ask_password=ask_password)
    output.print(f"{email} is an operator now.", markup=False)


@cli.command("deactivate-operator")
def deactivate_operator(
    email: Annotated[str, typer.Argument(help="The email address that the operator logs in with")],
    data_dir: DataDir = None,
) -> None:
    """End the sessions of one of the platform's staff, and let them in no more."""
    from bwenge.cli.operators import deactivate_operator as deactivate  # noqa: PLC0415  # as above

    deactivate(_settings(data_dir=data_dir), email=email)
    output.print(f"{email} is no operator any more.", markup=False)


@cli.command()
def grant(
    org_id: Annotated[UUID, typer.Argument(help="The organisation's id")],
    plan: Annotated[Literal["free", "basic", "pro", "enterprise"], typer.Argument(help="The plan's name")],
    *,
    until: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day of it, in the organisation's time zone")
    ],
    reason: Annotated[str, typer.Option(help="For the organisation's audit log")],
    data_dir: DataDir = None,
) -> None:
    """Give an organisation a plan without payment, whether the platform runs or not."""
    from bwenge.cli.granting import grant as give  # noqa: PLC0415  # as above

    if not reason.strip():
        raise typer.BadParameter("a grant has a reason", param_hint="--reason")
    settings = _settings(data_dir=data_dir)
    end = give(settings, org_id=org_id, plan_name=plan, until=until.date(), reason=reason.strip())
    output.print(f"The plan {plan} is in force until {end:%Y-%m-%d %H:%M} UTC.", markup=False)


@cli.command()
def rotate_keys(data_dir: DataDir = None) -> None:
    """Sign access tokens with a new key from now on; nobody has to sign in again.

    Where processes have data directories of their own and one BWENGE_SECRET_KEY, run it for each, within half an hour.
    """
    from bwenge.cli.serving import rotate_signing_key  # noqa: PLC0415  # as above

    until = rotate_signing_key(_settings(data_dir=data_dir))
    output.print("Access tokens are signed with a new key; a running platform takes it up within five seconds.")
    output.print(f"Tokens of the last key are good until {until:%H:%M} UTC.")


@cli.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask")],
    persona: Annotated[str | None, typer.Option("--persona", "-p", help="A persona's name or id")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Upload this document first, for a persona of its own unless --persona names one",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Ask a persona and print its answer with numbered sources.

    Uses BWENGE_URL and BWENGE_TOKEN, else the demo accounts of the data directory.
    """
    from bwenge.cli.asking import ask_question  # noqa: PLC0415  # as above

    ask_question(
        question,
        persona=persona,
        file=file,
        settings=_settings(data_dir=data_dir),
        output=output,
    )
