"""The search bench on a few chunks: every part is measured, and its material is what it says it is."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import bindparam, create_engine, text
from sqlalchemy.engine import URL

from bench import search, synthetic
from bwenge.knowledge import retrieval
from bwenge.knowledge.analysis import analyse
from bwenge.knowledge.models import EMBEDDING_DIMENSIONS
from bwenge.providers.embedding.fake import FakeEmbedder


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Any]]:
    return search.run(chunks=60, personas=3, questions=6, rounds=1, embedder=FakeEmbedder())


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[URL, list[synthetic.Material]]]:
    shape = synthetic.Shape(personas=2, chunks=30, windows=2, chunks_per_source=20)
    with synthetic.migrated_server() as admin_url:
        yield admin_url, synthetic.load(admin_url, [shape], questions=5)


def counted(admin_url: URL, query: str) -> Any:
    engine = create_engine(admin_url)
    try:
        with engine.connect() as connection:
            return connection.execute(text(query)).scalar_one()
    finally:
        engine.dispose()


def test_each_layout_has_the_times_of_every_part(figures: dict[str, dict[str, Any]]) -> None:
    parts = ("bm25", "dense", "dense_exact", "search")
    times = {f"{part}_p{percent}_ms" for part in parts for percent in (50, 95)}
    assert list(figures) == ["1 x 60 chunks", "3 x 20 chunks"]
    assert all(times <= layout.keys() for layout in figures.values())


def test_recall_is_full_where_every_vector_is_compared(figures: dict[str, dict[str, Any]]) -> None:
    assert [layout["dense_recall_at_10"] for layout in figures.values()] == [1.0, 1.0]


def test_recall_is_lost_where_the_search_finds_others_than_the_nearest(
    loaded: tuple[URL, list[synthetic.Material]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = "ORDER BY v.embedding <=> :query"
    farthest = text(retrieval._DENSE_APPROXIMATE.text.replace(nearest, f"{nearest} DESC"))
    walk = farthest.bindparams(bindparam("query", type_=HALFVEC(EMBEDDING_DIMENSIONS)))
    monkeypatch.setattr(retrieval, "_DENSE_APPROXIMATE", walk)
    monkeypatch.setattr(retrieval, "EXACT_LIMIT", 0)
    monkeypatch.setattr(search, "CANDIDATES", search.RECALL_AT)
    layouts = {"farthest": loaded[1][0]}
    figures = asyncio.run(search._measure_all(loaded[0], layouts, rounds=1, embedder=FakeEmbedder()))
    assert figures["farthest"]["dense_recall_at_10"] < 0.5


def test_keyword_search_reads_the_postings_by_their_primary_key(figures: dict[str, dict[str, Any]]) -> None:
    assert "pk_postings" in figures["1 x 60 chunks"]["bm25_reads"]


def test_rows_loaded_are_those_of_the_shape(loaded: tuple[URL, list[synthetic.Material]]) -> None:
    assert counted(loaded[0], "SELECT count(*) FROM personas") == 2
    assert counted(loaded[0], "SELECT count(*) FROM knowledge_sources") == 4
    assert counted(loaded[0], "SELECT count(*) FROM knowledge_chunks") == 60
    assert counted(loaded[0], "SELECT count(*) FROM chunk_vectors") == 120


def test_postings_add_up_to_the_terms_of_the_chunks(loaded: tuple[URL, list[synthetic.Material]]) -> None:
    occurrences = counted(loaded[0], "SELECT sum(f) FROM postings, unnest(frequencies) AS f")
    assert occurrences == 60 * synthetic.TERMS_PER_CHUNK


def test_the_index_of_the_schema_is_there_after_loading(loaded: tuple[URL, list[synthetic.Material]]) -> None:
    definition = counted(loaded[0], "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_chunk_vectors_embedding'")
    assert "USING hnsw" in definition


def test_questions_are_shared_out_among_the_personas(loaded: tuple[URL, list[synthetic.Material]]) -> None:
    (material,) = loaded[1]
    assert len(material.questions) == 5
    assert len({question.persona_id for question in material.questions}) == 2


def test_analysis_leaves_a_questions_words_as_they_are_indexed(loaded: tuple[URL, list[synthetic.Material]]) -> None:
    (material,) = loaded[1]
    words = material.questions[0].text.split()
    assert len(words) == synthetic.TERMS_PER_QUESTION
    assert all(analyse(material.questions[0].text, language) == words for language in ("en", "fr", "rw", "sw"))


def test_vectors_have_unit_length_and_chunks_of_a_source_lie_together() -> None:
    choice = np.random.default_rng(1)
    sources = [synthetic.clustered_vectors(40, 2, choice) for _ in range(2)]
    assert np.allclose(np.linalg.norm(sources[0], axis=-1), 1, atol=1e-3)
    inside = (sources[0][:20, 0] @ sources[0][20:, 0].T).mean()
    between = (sources[0][:, 0] @ sources[1][:, 0].T).mean()
    assert inside > between + 0.2


def test_the_commonest_terms_are_in_about_half_of_the_chunks() -> None:
    terms = synthetic.zipf_terms(400, np.random.default_rng(1))
    assert 0.4 < np.mean([0 in chunk for chunk in terms]) < 0.75
