"""Hybrid search at scale, through the product's own path: `python -m bench.search [--chunks 50000]`.

The same number of chunks twice in one database: all in one persona, whose nearest vectors the HNSW index finds, and
spread over personas that are small enough for comparing every vector. Roles, row-level security and the server's
settings are the product's; the material is synthetic (`bench.synthetic`).
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from bench.embedding import QUERY
from bench.synthetic import EMBEDDING_MODEL, Material, Question, Shape, load, migrated_server, role_urls
from bwenge.kit.db import SINGLE, Database
from bwenge.kit.telemetry import configure_logging
from bwenge.knowledge import retrieval
from bwenge.knowledge.analysis import analyse_query
from bwenge.knowledge.contract import SearchQuery
from bwenge.knowledge.search import CANDIDATES, HybridSearch
from bwenge.providers.embedding.base import Embedder
from bwenge.providers.embedding.minilm import MiniLMEmbedder

RECALL_AT: Final = 10
WARM_UP: Final = 12
"""Questions asked before time is taken: by then a connection has prepared its statements and settled on their plans."""

BM25, DENSE, EXACT, WHOLE = "bm25", "dense", "dense_exact", "search"

T = TypeVar("T")


@dataclass
class Times:
    """Milliseconds of each question by part, and the share of the ten nearest chunks that its dense search found."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    recalls: list[float] = field(default_factory=list)

    async def timed(self, part: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        result = await work
        self.milliseconds.setdefault(part, []).append((time.perf_counter() - started) * 1000)
        return result

    def percentile(self, part: str, percent: int) -> float:
        return float(np.percentile(self.milliseconds[part], percent))

    def figures(self) -> dict[str, float]:
        percentiles = {
            f"{part}_p{percent}_ms": self.percentile(part, percent)
            for part in self.milliseconds
            for percent in (50, 95)
        }
        return percentiles | {f"dense_recall_at_{RECALL_AT}": float(np.mean(self.recalls))}


class PlacedQuestions:
    """Takes a real embedder's time for a question, and puts it where `bench.synthetic` placed it."""

    def __init__(self, embedder: Embedder, questions: Sequence[Question]) -> None:
        self._embedder = embedder
        self._places = {question.text: question.vector for question in questions}
        self.name = EMBEDDING_MODEL
        self.dimensions = embedder.dimensions
        self.max_tokens = embedder.max_tokens
        self.tokenizer = embedder.tokenizer

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        return await self._embedder.embed_documents(texts, urgent=urgent)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        # The words of synthetic texts are several word pieces each, and would take longer than those of a language.
        await self._embedder.embed_query(QUERY)
        return self._places[text]


def run(
    *,
    chunks: int = 50_000,
    personas: int = 25,
    windows: int = 2,
    questions: int = 200,
    rounds: int = 3,
    embedder: Embedder | None = None,
) -> dict[str, dict[str, Any]]:
    """By layout of the chunks: milliseconds by part of the search, dense recall, and what each query's plan reads.

    Args:
        chunks: In each of the two layouts.
        personas: Over which they are spread in the second one.
        windows: Vectors of a chunk; two is what a full chunk gets.
        questions: About each layout.
        rounds: Passes over the questions; the one with the lowest median counts.
        embedder: MiniLM unless given; whole searches wait for it, their parts do not.
    """
    shapes = (Shape(1, chunks, windows=windows), Shape(personas, chunks // personas, windows=windows))
    with migrated_server() as admin_url:
        materials = load(admin_url, shapes, questions=questions)
        layouts = {
            f"{shape.personas} x {shape.chunks:,} chunks": material
            for shape, material in zip(shapes, materials, strict=True)
        }
        return asyncio.run(_measure_all(admin_url, layouts, rounds=rounds, embedder=embedder))


async def _measure_all(
    admin_url: URL, layouts: Mapping[str, Material], *, rounds: int, embedder: Embedder | None
) -> dict[str, dict[str, Any]]:
    # One connection, so that the warm-up prepares all that is asked afterwards.
    database = Database(role_urls(admin_url), pools=SINGLE)
    try:
        with TemporaryDirectory() as folder:
            model: Embedder = embedder or MiniLMEmbedder.load(Path(folder))
            benches = {name: _LayoutBench(material, database, embedder=model) for name, material in layouts.items()}
            return {name: await bench.measure(rounds) for name, bench in benches.items()}
    finally:
        await database.dispose()


class _LayoutBench:
    def __init__(self, material: Material, database: Database, *, embedder: Embedder) -> None:
        self._material = material
        self._database = database
        self._search = HybridSearch(database, PlacedQuestions(embedder, material.questions))

    async def measure(self, rounds: int) -> dict[str, Any]:
        questions = self._material.questions
        await self._ask_all(questions[:WARM_UP])
        passes = [await self._ask_all(questions) for _ in range(rounds)]
        best = min(passes, key=lambda times: times.percentile(WHOLE, 50))
        return best.figures() | await self._reads(questions[0])

    async def _ask_all(self, questions: Sequence[Question]) -> Times:
        times = Times()
        for question in questions:
            await self._ask_in_parts(question, times)
        for question in questions:
            query = SearchQuery(self._material.org_id, question.persona_id, question.text)
            await times.timed(WHOLE, self._search.search(query))
        for question in questions:
            await self._compare_with_exact(question, times)
        return times

    async def _ask_in_parts(self, question: Question, times: Times) -> None:
        async with self._database.unit_of_work(self._material.org_id) as session:
            parts = await _Parts.of(session, question, org_id=self._material.org_id)
            await times.timed(BM25, parts.keywords())
            await times.timed(DENSE, parts.vectors())

    async def _compare_with_exact(self, question: Question, times: Times) -> None:
        async with self._database.unit_of_work(self._material.org_id) as session:
            parts = await _Parts.of(session, question, org_id=self._material.org_id)
            found = list(await parts.vectors())[:RECALL_AT]
            nearest = list(await times.timed(EXACT, parts.every_vector()))[:RECALL_AT]
        times.recalls.append(len(set(found) & set(nearest)) / len(nearest))

    async def _reads(self, question: Question) -> dict[str, str]:
        async with self._database.unit_of_work(self._material.org_id) as session:
            parts = await _Parts.of(session, question, org_id=self._material.org_id)
            return {
                "bm25_reads": await indexes_of(session, parts.keywords()),
                "dense_reads": await indexes_of(session, parts.vectors()),
            }


@dataclass(frozen=True)
class _Parts:
    """The product's queries for one question, as `HybridSearch` makes them."""

    session: AsyncSession
    question: Question
    org_id: UUID
    material: retrieval.Material

    @classmethod
    async def of(cls, session: AsyncSession, question: Question, *, org_id: UUID) -> "_Parts":
        material = await retrieval.find_material(
            session, org_id=org_id, persona_id=question.persona_id, embedding_model=EMBEDDING_MODEL
        )
        return cls(session, question, org_id, material)

    async def keywords(self) -> dict[UUID, float]:
        return await retrieval.search_keywords(
            self.session,
            org_id=self.org_id,
            persona_id=self.question.persona_id,
            terms=analyse_query(
                self.question.text,
                language="en",
                main_languages=self.material.main_languages,
                languages=self.material.languages,
            ),
            limit=CANDIDATES,
        )

    async def vectors(self) -> dict[UUID, float]:
        return await self._vectors(self.material)

    async def every_vector(self) -> dict[UUID, float]:
        """As for a persona too small for the index."""
        return await self._vectors(replace(self.material, full_chunks=0))

    async def _vectors(self, material: retrieval.Material) -> dict[UUID, float]:
        return await retrieval.search_vectors(
            self.session,
            org_id=self.org_id,
            persona_id=self.question.persona_id,
            material=material,
            query=self.question.vector,
            limit=CANDIDATES,
        )


async def indexes_of(session: AsyncSession, work: Awaitable[object]) -> str:
    """The indexes, and tables as a whole, that PostgreSQL's plan for the last statement of `work` reads."""
    connection = await session.connection()
    sent: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        sent.append((statement, parameters))

    event.listen(connection.sync_connection, "before_cursor_execute", remember)
    try:
        await work
    finally:
        event.remove(connection.sync_connection, "before_cursor_execute", remember)
    statement, parameters = sent[-1]
    plan = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)).scalar_one()
    return ", ".join(sorted(set(_reads(plan[0]["Plan"]))))


def _reads(node: Mapping[str, Any]) -> list[str]:
    found = [node["Index Name"]] if "Index Name" in node else []
    if node["Node Type"] == "Seq Scan":
        found.append(f"all of {node['Relation Name']}")
    return found + [name for child in node.get("Plans", ()) for name in _reads(child)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--personas", type=int, default=25)
    parser.add_argument("--windows", type=int, default=2, help="vectors of a chunk")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = vars(parser.parse_args())
    configure_logging(level="WARNING")
    print(json.dumps(run(**options), indent=2))


if __name__ == "__main__":
    main()
