"""`bwenge create-operator`."""

import asyncio

from bwenge.apps.operators import DatabaseNotPrepared, create_operator
from bwenge.apps.settings import Settings
from bwenge.cli.failures import CommandFailed
from bwenge.cli.serving import load_secrets, log_as_configured, told_plainly
from bwenge.kit.errors import Conflict


def make_operator(settings: Settings, *, email: str, name: str, password: str) -> None:
    """Raises `CommandFailed` where the account cannot be made, with what to do."""
    secrets = load_secrets(settings)
    log_as_configured(settings)
    with told_plainly():
        try:
            asyncio.run(create_operator(settings, secrets, email=email, name=name, password=password))
        except ValueError as error:
            raise CommandFailed(f"This is no operator: {error}.") from error
        except Conflict as error:
            raise CommandFailed(f"{error.detail}.") from error
        except DatabaseNotPrepared as error:
            raise CommandFailed(str(error)) from error
