"""Letting the platform's staff in and out from the command line, beside a running platform or without one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import ProgrammingError

from bwenge.apps.resources import join_server, open_database
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.auth import wiring as auth_wiring
from bwenge.auth.operators import Operators
from bwenge.kit.db import SINGLE, DatabaseUnavailable


class DatabaseNotPrepared(RuntimeError):
    def __init__(self) -> None:
        super().__init__(
            "The database does not answer, refuses the platform's login, or has an older schema. Start the platform"
            " or run `bwenge migrate`, with the same BWENGE_SECRET_KEY or data directory, and try again."
        )


async def create_operator(settings: Settings, secrets: Secrets, *, email: str, name: str, password: str) -> None:
    """Make an operator's account.

    Raises:
        ValueError, CommonPassword: As `auth.operators.Operators.create`.
        EmailTaken: Another account has the address.
        DatabaseNotPrepared
        DataDirectoryInUse, PostgresFailedToStart, DatabaseRefused
    """
    async with _operators(settings, secrets) as operators:
        await operators.create(email, name=name, password=password)


async def deactivate_operator(settings: Settings, secrets: Secrets, *, email: str) -> None:
    """End an operator's sessions and let them in no more.

    Raises:
        ValueError: This is no email address.
        NotFound: No active operator has it.
        DatabaseNotPrepared
        DataDirectoryInUse, PostgresFailedToStart, DatabaseRefused
    """
    async with _operators(settings, secrets) as operators:
        await operators.deactivate(email)


@asynccontextmanager
async def _operators(settings: Settings, secrets: Secrets) -> AsyncIterator[Operators]:
    with join_server(settings, secrets) as url:
        async with open_database(url, secrets, pools=SINGLE) as database:
            try:
                yield auth_wiring.build(database, signing_key_pem=secrets.signing_key_pem()).operators
            except (DatabaseUnavailable, ProgrammingError) as error:
                raise DatabaseNotPrepared from error
