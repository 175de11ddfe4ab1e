from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool


@pytest.fixture
def connection(admin_url: URL) -> Iterator[Connection]:
    """A connection of the administrator whose changes are rolled back."""
    engine = create_engine(admin_url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()
