"""`bwenge create-operator` and `bwenge deactivate-operator`."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bwenge.apps import operators
from bwenge.apps.operators import DatabaseNotPrepared
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.cli.directories import require_database
from bwenge.cli.failures import CommandFailed
from bwenge.cli.serving import load_secrets, log_as_configured, told_plainly
from bwenge.kit.errors import Conflict, Invalid, NotFound


def make_operator(settings: Settings, *, email: str, name: str, ask_password: Callable[[], str]) -> None:
    """Raises `CommandFailed` where the account cannot be made, with what to do."""
    require_database(settings)
    password = ask_password()
    _run(
        settings,
        lambda secrets: operators.create_operator(settings, secrets, email=email, name=name, password=password),
    )


def deactivate_operator(settings: Settings, *, email: str) -> None:
    """Raises `CommandFailed` where there is nobody to deactivate."""
    require_database(settings)
    _run(settings, lambda secrets: operators.deactivate_operator(settings, secrets, email=email))


def _run(settings: Settings, work: Callable[[Secrets], Coroutine[Any, Any, None]]) -> None:
    secrets = load_secrets(settings)
    log_as_configured(settings)
    with told_plainly():
        try:
            asyncio.run(work(secrets))
        except ValueError as error:
            raise CommandFailed(f"This is no operator: {error}.") from error
        except (Conflict, Invalid, NotFound) as error:
            raise CommandFailed(f"{error.detail}.") from error
        except DatabaseNotPrepared as error:
            raise CommandFailed(str(error)) from error
