"""The engine, the stores and the models that features are built on, opened from settings and closed in order."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg
from pwdlib import PasswordHash
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import ModelServer, Settings
from bwenge.kit.blobs.store import BlobStore
from bwenge.kit.data_directory import DataDirectoryInUse, DataDirectoryLock
from bwenge.kit.db import DEFAULT_POOLS, Database, DatabaseUnavailable, DatabaseURLs, PoolSizes
from bwenge.kit.embedded_postgres import EmbeddedPostgres, running_server
from bwenge.kit.jobs.queues import POOL_SIZE as RUNNER_POOL_SIZE
from bwenge.kit.mail import Mailer, MailServer, NoMailer, SMTPMailer
from bwenge.migrations.readiness import has_present_schema
from bwenge.migrations.runner import migrate
from bwenge.providers.embedding.base import Embedder
from bwenge.providers.embedding.lazy import LazyEmbedder
from bwenge.providers.llm.base import LanguageModel
from bwenge.providers.llm.fallback import OrderedFallback

if TYPE_CHECKING:
    from bwenge.providers.llm.openai_compatible import OpenAICompatible

Announce = Callable[[str], None]
"""Told of each step of the start, in words for the person who waits."""


SERVING_AND_JOBS: Final = PoolSizes(app=RUNNER_POOL_SIZE, platform=RUNNER_POOL_SIZE)
"""Of a process that serves and runs jobs of every queue."""

SCHEMA_SECONDS: Final = 60.0
"""How long a process that does not migrate waits for one that does."""
_SCHEMA_CHECK_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server at the present schema; `embedded` where it is this process's own."""

    url: URL
    schema_changed: bool
    embedded: EmbeddedPostgres | None = None

    @property
    def has_died(self) -> bool:
        """Whether the embedded server is gone, so that this process cannot serve any more."""
        return self.embedded is not None and self.embedded.has_died


class SchemaTooOld(RuntimeError):
    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The database at DATABASE_URL is not ready: {reason}. Run `bwenge migrate` with the same BWENGE_SECRET_KEY"
            " or data directory."
        )


class DatabaseRefused(RuntimeError):
    """PostgreSQL does not let its database be prepared, in the words of its primary message, which quote no row."""


@contextmanager
def open_server(settings: Settings, secrets: Secrets, *, announce: Announce) -> Iterator[Server]:
    """The external PostgreSQL server where one is set, else the embedded one; migrated.

    The data directory is this process's alone as long as the block runs.

    Raises:
        DataDirectoryInUse, PostgresFailedToStart, DatabaseRefused
        OperationalError: The external server does not answer, or refuses the login.
    """
    with DataDirectoryLock(settings.data_dir):
        if settings.database_url is not None:
            url = driver_url(settings.database_url.get_secret_value())
            announce("Bringing the database to the present schema")
            yield Server(url, _prepare(url, secrets))
            return
        announce("Starting PostgreSQL")
        with EmbeddedPostgres(settings.data_dir, password=secrets.superuser_password) as embedded:
            announce("Bringing the database to the present schema")
            url = make_url(embedded.url)
            yield Server(url, _prepare(url, secrets), embedded)


@contextmanager
def join_server(settings: Settings, secrets: Secrets) -> Iterator[URL]:
    """The server of a platform that may be running: what a command needs which only speaks to the database.

    An external server and that of a running platform are taken as they are, at the schema that the platform gave them;
    the embedded server of one that does not run is started for as long as the block runs.

    Raises:
        DataDirectoryInUse: By a platform whose server does not run (yet).
        PostgresFailedToStart, DatabaseRefused
    """
    if settings.database_url is not None:
        yield driver_url(settings.database_url.get_secret_value())
        return
    with ExitStack() as stack:
        try:
            url = stack.enter_context(open_server(settings, secrets, announce=lambda _step: None)).url
        except DataDirectoryInUse:
            running = running_server(settings.data_dir)
            if running is None:
                raise
            url = make_url(running)
        yield url


class NoDatabase(RuntimeError):
    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL is not set. One service alone has no database of its own: name one, or start the whole"
            " platform with `bwenge up`, or as separate processes with `bwenge up --split`."
        )


def shared_server(settings: Settings) -> Server:
    """The external server of a process that shares it with others, which bring it to the present schema.

    Raises:
        NoDatabase
    """
    if settings.database_url is None:
        raise NoDatabase
    return Server(driver_url(settings.database_url.get_secret_value()), schema_changed=False)


def _prepare(url: URL, secrets: Secrets) -> bool:
    try:
        return migrate(url, secrets.role_passwords)
    except DBAPIError as error:
        refusal = error.orig.diag.message_primary if isinstance(error.orig, psycopg.Error) else None
        if refusal is None:
            raise
        raise DatabaseRefused(f"PostgreSQL refused to prepare the database: {refusal}.") from error


def driver_url(address: str) -> URL:
    """Any spelling of a PostgreSQL address, for the driver in use."""
    return make_url(address).set(drivername="postgresql+psycopg")


@dataclass(frozen=True)
class Resources:
    database: Database
    blobs: BlobStore
    embedder: Embedder
    model: LanguageModel | None
    is_alone: bool = False
    """No other process works on the database: it is embedded, and the data directory's lock is held."""
    password_hash: PasswordHash | None = None
    """Argon2id as RFC 9106 recommends when absent."""
    mailer: Mailer = field(default_factory=NoMailer)


@asynccontextmanager
async def open_database(server: URL, secrets: Secrets, *, pools: PoolSizes = DEFAULT_POOLS) -> AsyncIterator[Database]:
    """The pools of the serving roles, whose passwords are derived; their connections are closed at the end."""
    passwords = secrets.role_passwords
    urls = DatabaseURLs.for_roles(
        server, app_password=passwords.app, platform_password=passwords.platform, steward_password=passwords.steward
    )
    database = Database(urls, pools=pools)
    try:
        yield database
    finally:
        await database.dispose()


async def await_schema(database: Database, *, seconds: float = SCHEMA_SECONDS) -> None:
    """Wait until somebody has migrated the database.

    Raises:
        SchemaTooOld: Nobody did in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if await has_present_schema(database):
                return
            reason = "it has an older schema"
        except DatabaseUnavailable:
            reason = "it does not answer, or refuses the login"
        if time.monotonic() > deadline:
            raise SchemaTooOld(reason)
        await asyncio.sleep(_SCHEMA_CHECK_SECONDS)


@asynccontextmanager
async def open_resources(
    settings: Settings, secrets: Secrets, *, server: Server, embedder: Embedder, pools: PoolSizes = SERVING_AND_JOBS
) -> AsyncIterator[Resources]:
    """Open what features are built on; by default with connections enough to serve and to run jobs."""
    async with AsyncExitStack() as stack:
        yield Resources(
            database=await stack.enter_async_context(open_database(server.url, secrets, pools=pools)),
            blobs=_blob_store(settings),
            embedder=embedder,
            model=_language_model(settings, stack),
            is_alone=server.embedded is not None,
            mailer=_mailer(settings),
        )


def _blob_store(settings: Settings) -> BlobStore:
    if settings.blob_url is None:
        return BlobStore.on_disk(settings.data_dir / "blobs")
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        # As of the settings, a name without a value is one that is not set.
        del os.environ[name]
    return BlobStore.at(settings.blob_url)


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_url is None or settings.mail_from is None:
        return NoMailer()
    return SMTPMailer(MailServer.from_url(settings.smtp_url.get_secret_value()), sender=settings.mail_from)


def lazy_embedder(settings: Settings) -> LazyEmbedder:
    def load() -> Embedder:
        # Its runtime takes 20 MB, which a process that embeds nothing does not spend.
        from bwenge.providers.embedding.minilm import MiniLMEmbedder  # noqa: PLC0415

        return MiniLMEmbedder.load(settings.data_dir / "models")

    return LazyEmbedder(load)


def load_embedder(settings: Settings, *, announce: Announce) -> Embedder:
    announce("Loading the embedding model (the first start builds it)")
    return lazy_embedder(settings).load()


def _language_model(settings: Settings, stack: AsyncExitStack) -> LanguageModel | None:
    servers = settings.model_servers()
    if not servers:
        return None
    models = [_open_model(server, settings, number=number) for number, server in enumerate(servers, start=1)]
    for model in models:
        stack.push_async_callback(model.aclose)
    return OrderedFallback(models)


def _open_model(server: ModelServer, settings: Settings, *, number: int) -> "OpenAICompatible":
    # Half a second and 40 MB, which a process without a model does not spend.
    from bwenge.providers.llm.openai_compatible import (  # noqa: PLC0415
        OpenAICompatible,
        ProviderConfig,
        StreamTimeouts,
    )

    timeouts = StreamTimeouts(
        connect=settings.llm_connect_seconds,
        first_token=settings.llm_first_token_seconds,
        between_tokens=settings.llm_between_tokens_seconds,
        whole=settings.llm_whole_seconds,
    )
    key = server.api_key if server.api_key.get_secret_value() else None
    name = server.name or f"provider-{number}"
    config = ProviderConfig(base_url=server.base_url, model=server.model, name=name, api_key=key)
    return OpenAICompatible(config, timeouts=timeouts)
