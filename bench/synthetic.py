"""Knowledge of any size in a real database, made by numbers instead of by reading and embedding documents.

The figures below were measured on MiniLM's vectors of 18,000 sentences and on the terms of SQuAD's articles, so that an
index meets what it meets in service: neighbours at cosines of about 0.70, 0.60 and 0.45 (first, tenth, hundredth), an
intrinsic dimension of about 20, and terms of which the commonest stand in half of the chunks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from sqlalchemy.engine import URL, make_url

from bwenge.kit.db import DatabaseURLs
from bwenge.kit.embedded_postgres import EmbeddedPostgres
from bwenge.kit.ids import new_id
from bwenge.knowledge.models import EMBEDDING_DIMENSIONS
from bwenge.migrations.runner import RolePasswords, migrate

VOCABULARY: Final = 30_000
TERMS_PER_CHUNK: Final = 250
TERMS_PER_QUESTION: Final = 6
CHUNKS_PER_SECTION: Final = 20
EMBEDDING_MODEL: Final = "synthetic"

_ZIPF_OFFSET: Final = 40
_SPECTRUM_DECAY: Final = 0.6
# What two vectors share, as squared lengths: a common part, that of their source, that of their section; the rest is
# their own. A window shares most of its own part with the other windows of its chunk.
_COMMON, _OF_SOURCE, _OF_SECTION = 0.08, 0.36, 0.14
_OF_CHUNK: Final = 0.25
_QUESTION_COSINE: Final = 0.6

_PASSWORDS: Final = RolePasswords(app="bench-app", platform="bench-platform", steward="bench-steward")
_HNSW: Final = "ix_chunk_vectors_embedding"
_BUILD_MEMORY: Final = "512MB"


@dataclass(frozen=True)
class Question:
    """Words of one chunk, and a vector of shape (EMBEDDING_DIMENSIONS,) near to that chunk's."""

    persona_id: UUID
    text: str
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """How much material: each persona has `chunks` chunks in sources of at most `chunks_per_source`.

    `windows` vectors a chunk: two is what a full chunk of 500 tokens gets from a model that reads 256.
    """

    personas: int
    chunks: int
    windows: int = 2
    chunks_per_source: int = 500


@dataclass(frozen=True)
class Material:
    """One organisation's, and questions about all of its personas, in no order."""

    org_id: UUID
    questions: Sequence[Question]


@contextmanager
def migrated_server() -> Iterator[URL]:
    """The administrator's URL of an embedded PostgreSQL with the product's own settings, schema, roles and policies."""
    with (
        TemporaryDirectory(prefix="bwenge-bench-", ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(Path(folder), password="bench-only") as server,
    ):
        migrate(server.url, _PASSWORDS)
        yield make_url(server.url)


def role_urls(admin_url: URL) -> DatabaseURLs:
    return DatabaseURLs.for_roles(
        admin_url,
        app_password=_PASSWORDS.app,
        platform_password=_PASSWORDS.platform,
        steward_password=_PASSWORDS.steward,
    )


def load(admin_url: URL, shapes: Sequence[Shape], *, questions: int, seed: int = 7) -> list[Material]:
    """Write an organisation for each shape by COPY, then build the HNSW index once and gather statistics."""
    choice = np.random.default_rng(seed)
    with _loading(admin_url) as connection:
        return [_load_organisation(connection, shape, questions=questions, choice=choice) for shape in shapes]


def _load_organisation(
    connection: psycopg.Connection, shape: Shape, *, questions: int, choice: np.random.Generator
) -> Material:
    org_id = new_id()
    connection.execute("INSERT INTO organizations (id, name) VALUES (%s, 'Bench')", [org_id])
    asked: list[Question] = []
    for number in range(shape.personas):
        wanted = questions // shape.personas + (number < questions % shape.personas)
        asked += _load_persona(connection, org_id, shape, wanted=wanted, choice=choice)
    return Material(org_id, [asked[index] for index in choice.permutation(len(asked))])


@contextmanager
def _loading(admin_url: URL) -> Iterator[psycopg.Connection]:
    address = admin_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        register_vector(connection)
        definition = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = %s", [_HNSW]).fetchone()
        assert definition is not None
        connection.execute(f"DROP INDEX {_HNSW}")
        # No foreign key is checked: the rows fit together by construction, and checking takes most of the time.
        connection.execute("SET session_replication_role = replica")
        yield connection
        connection.execute(f"SET maintenance_work_mem = '{_BUILD_MEMORY}'")
        connection.execute(definition[0])
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _load_persona(
    connection: psycopg.Connection, org_id: UUID, shape: Shape, *, wanted: int, choice: np.random.Generator
) -> list[Question]:
    persona_id = new_id()
    connection.execute(
        "INSERT INTO personas (id, org_id, name, tone, rules, sample_prompts, safety_rules, settings) "
        "VALUES (%s, %s, 'Gabriel', '{}', '{}', '[]', '[]', '{}')",
        [persona_id, org_id],
    )
    questions: list[Question] = []
    for start in range(0, shape.chunks, shape.chunks_per_source):
        size = min(shape.chunks_per_source, shape.chunks - start)
        source = SyntheticSource.make(org_id, persona_id, size=size, windows=shape.windows, choice=choice)
        source.write(connection)
        due = wanted * (start + size) // shape.chunks - len(questions)
        questions += [source.question(choice) for _ in range(due)]
    return questions


@dataclass(frozen=True)
class SyntheticSource:
    """One document: `terms` of shape (chunks, TERMS_PER_CHUNK), `vectors` of shape (chunks, windows, dimensions)."""

    id: UUID
    org_id: UUID
    persona_id: UUID
    chunk_ids: Sequence[UUID]
    terms: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @classmethod
    def make(
        cls, org_id: UUID, persona_id: UUID, *, size: int, windows: int, choice: np.random.Generator
    ) -> "SyntheticSource":
        return cls(
            id=new_id(),
            org_id=org_id,
            persona_id=persona_id,
            chunk_ids=[new_id() for _ in range(size)],
            terms=zipf_terms(size, choice),
            vectors=clustered_vectors(size, windows, choice),
        )

    def question(self, choice: np.random.Generator) -> Question:
        row = choice.integers(len(self.chunk_ids))
        words = choice.choice(np.unique(self.terms[row]), TERMS_PER_QUESTION, replace=False)
        aside = _directions(1, choice)[0]
        near = _unit(self.vectors[row, 0])
        vector = _QUESTION_COSINE * near + np.sqrt(1 - _QUESTION_COSINE**2) * _unit(aside - (aside @ near) * near)
        return Question(self.persona_id, " ".join(map(_word, words)), vector.astype(np.float32))

    def write(self, connection: psycopg.Connection) -> None:
        self._write_source(connection)
        self._write_chunks(connection)
        self._write_postings(connection)
        self._write_vectors(connection)

    def _write_source(self, connection: psycopg.Connection) -> None:
        connection.execute(
            "INSERT INTO knowledge_sources (id, org_id, persona_id, title, file_name, type, file_size, sha256, status, "
            "stage, searchable, chunk_count, term_count, language, languages, embedding_model) "
            "VALUES (%s, %s, %s, 'Book', 'book.pdf', 'pdf', 1, %s, 'ready', 'done', 'full', %s, %s, 'en', '{en}', %s)",
            [self.id, self.org_id, self.persona_id, self.id.hex, len(self.chunk_ids), self.terms.size, EMBEDDING_MODEL],
        )

    def _write_chunks(self, connection: psycopg.Connection) -> None:
        columns = "id, org_id, source_id, chunk_index, text, token_count, term_count, language, locator, place_starts"
        with connection.cursor().copy(f"COPY knowledge_chunks ({columns}) FROM STDIN") as copy:
            for index, (chunk_id, terms) in enumerate(zip(self.chunk_ids, self.terms, strict=True)):
                text = " ".join(map(_word, terms))
                row = (chunk_id, self.org_id, self.id, index, text, 500, terms.size, "en", '{"page": 1}', "[]")
                copy.write_row(row)

    def _write_postings(self, connection: psycopg.Connection) -> None:
        size, length = self.terms.shape
        keys, frequencies = np.unique(self.terms * size + np.arange(size)[:, None], return_counts=True)
        terms, indexes = keys // size, keys % size
        starts = np.flatnonzero(np.diff(terms, prepend=-1))
        columns = "persona_id, term, source_id, segment, org_id, chunk_indexes, frequencies, lengths"
        with connection.cursor().copy(f"COPY postings ({columns}) FROM STDIN") as copy:
            for start, end in zip(starts, [*starts[1:], len(terms)], strict=True):
                term = _word(terms[start])
                arrays = (indexes[start:end].tolist(), frequencies[start:end].tolist(), [length] * int(end - start))
                copy.write_row((self.persona_id, term, self.id, 0, self.org_id, *arrays))

    def _write_vectors(self, connection: psycopg.Connection) -> None:
        columns = "chunk_id, window_index, org_id, persona_id, source_id, embedding"
        with connection.cursor().copy(f"COPY chunk_vectors ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["uuid", "int4", "uuid", "uuid", "uuid", "halfvec"])
            for chunk_id, windows in zip(self.chunk_ids, self.vectors, strict=True):
                for number, vector in enumerate(windows):
                    copy.write_row(
                        (chunk_id, number, self.org_id, self.persona_id, self.id, HalfVector(vector.astype(np.float16)))
                    )


def zipf_terms(size: int, choice: np.random.Generator) -> NDArray[np.int64]:
    """Term numbers of shape (size, TERMS_PER_CHUNK) after Zipf and Mandelbrot: p(rank) ~ 1 / (rank + offset)."""
    weights = np.cumsum(1 / (np.arange(1, VOCABULARY + 1) + _ZIPF_OFFSET))
    terms: NDArray[np.int64] = np.searchsorted(weights, choice.random((size, TERMS_PER_CHUNK)) * weights[-1])
    return terms


def clustered_vectors(size: int, windows: int, choice: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors of one source, of shape (size, windows, EMBEDDING_DIMENSIONS)."""
    source = np.sqrt(_OF_SOURCE) * _directions(1, choice)
    sections = np.sqrt(_OF_SECTION) * _directions(size // CHUNKS_PER_SECTION + 1, choice)
    chunks = np.sqrt(_OF_CHUNK) * _directions(size, choice)
    own = np.sqrt(1 - _COMMON - _OF_SOURCE - _OF_SECTION - _OF_CHUNK) * _directions(size * windows, choice)
    vectors = (
        own.reshape(size, windows, -1) + (source + sections[np.arange(size) // CHUNKS_PER_SECTION] + chunks)[:, None]
    )
    vectors[..., -1] += np.sqrt(_COMMON)
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def _directions(number: int, choice: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian vectors of about unit length whose spectrum falls as that of sentence embeddings does."""
    scale = (np.arange(EMBEDDING_DIMENSIONS) + 4.0) ** -_SPECTRUM_DECAY
    directions: NDArray[np.float64] = choice.normal(size=(number, EMBEDDING_DIMENSIONS)) * scale
    directions /= np.sqrt((scale**2).sum())
    return directions


def _unit(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    return vector / np.linalg.norm(vector)


def _word(term: int) -> str:
    """A word that analysis leaves as it is: no stemmer knows an ending of digits."""
    return f"t{term}"
