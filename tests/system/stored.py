"""What the platform has stored, seen past its API: rows as PostgreSQL's superuser, files in the blob directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pgvector.psycopg import register_vector

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings


@dataclass(frozen=True)
class SourceIndex:
    """All that indexing wrote for a source, without the ids that each run makes anew.

    Attributes:
        vectors: By chunk index and window index, in half precision.
    """

    chunks: list[tuple[Any, ...]]
    postings: list[tuple[Any, ...]]
    vectors: list[tuple[int, int, list[float]]]


class StoredState:
    """The database and the blob directory of a running platform."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._connect() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        secrets = Secrets.load(Settings(_env_file=None, data_dir=self._data_dir))
        connection = psycopg.connect(
            host=str((self._data_dir / "postgres" / "socket").resolve()),
            user="postgres",
            password=secrets.superuser_password,
            dbname="bwenge",
            autocommit=True,
        )
        register_vector(connection)
        return connection

    def index_of(self, source_id: str) -> SourceIndex:
        chunks = self.query(
            "SELECT chunk_index, text, token_count, term_count, language, locator, place_starts FROM knowledge_chunks "
            "WHERE source_id = %s ORDER BY chunk_index",
            source_id,
        )
        postings = self.query(
            "SELECT term, segment, chunk_indexes, frequencies, lengths FROM postings WHERE source_id = %s "
            "ORDER BY term, segment",
            source_id,
        )
        vectors = self.query(
            "SELECT c.chunk_index, v.window_index, v.embedding FROM chunk_vectors v "
            "JOIN knowledge_chunks c ON c.id = v.chunk_id WHERE v.source_id = %s ORDER BY 1, 2",
            source_id,
        )
        return SourceIndex(
            chunks, postings, [(chunk, window, embedding.to_list()) for chunk, window, embedding in vectors]
        )

    def remains_of(self, source_id: str) -> dict[str, int]:
        """How many rows each table still holds of the source; only those that hold any."""
        counts = {
            table: self.query(f"SELECT count(*) FROM {table} WHERE {column} = %s", source_id)[0][0]  # noqa: S608  # names from here
            for table, column in (
                ("knowledge_sources", "id"),
                ("knowledge_chunks", "source_id"),
                ("chunk_vectors", "source_id"),
                ("postings", "source_id"),
                ("blob_references", "owner_id"),
            )
        }
        return {table: count for table, count in counts.items() if count}

    def blobs_of(self, org_id: str) -> list[str]:
        """The organisation's contents, by SHA-256, of which there is a row, a file, or both."""
        rows = {row[0] for row in self.query("SELECT sha256 FROM blobs WHERE org_id = %s", org_id)}
        return sorted(rows | {file.name for file in (self._data_dir / "blobs" / org_id).glob("*")})

    def unfinished_ingestions(self) -> int:
        statement = (
            "SELECT count(*) FROM jobs WHERE kind IN ('knowledge.ingest', 'knowledge.embed') "
            "AND state IN ('queued', 'running')"
        )
        count: int = self.query(statement)[0][0]
        return count

    def attempts_of(self, source_id: str) -> tuple[int, int]:
        """Those of the jobs that read a source and that embedded it."""
        found = self.query(
            "SELECT kind, attempts FROM jobs WHERE kind IN ('knowledge.ingest', 'knowledge.embed') "
            "AND payload ->> 'source_id' = %s",
            source_id,
        )
        attempts = dict(found)
        return attempts["knowledge.ingest"], attempts["knowledge.embed"]

    def hasten_retries(self) -> None:
        """Let what waits for its next attempt begin at once."""
        self.query("UPDATE jobs SET run_after = clock_timestamp() WHERE state = 'queued' AND attempts > 0")
