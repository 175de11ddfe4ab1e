"""Hybrid search over real PostgreSQL: what it finds, in which order, and what it must never find."""

import math
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bench.search import indexes_of
from bwenge.kit.ids import new_id
from bwenge.knowledge import index_rows, retrieval
from bwenge.knowledge.analysis import analyse
from bwenge.knowledge.contract import SearchQuery, SearchResult
from bwenge.knowledge.search import HybridSearch
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.databases import SavepointDatabase
from tests.support.material import add_persona, add_source, tombstone

LESSON = [
    "A percentage is a number expressed as a fraction of one hundred.",
    "Simple interest is the principal multiplied by the rate and by the time.",
    "The bus from Kigali to Huye carries adults and children.",
    "To share an amount in a ratio, divide it by the total number of parts of the ratio.",
]


@pytest.fixture
async def persona_id(database: SavepointDatabase, org_id: UUID) -> UUID:
    return await add_persona(database, org_id)


async def search(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID, question: str, **options: object
) -> SearchResult:
    query = SearchQuery(org_id, persona_id, question, **options)  # type: ignore[arg-type]  # options of the one query
    return await HybridSearch(database, FakeEmbedder()).search(query)


def texts(result: SearchResult) -> list[str]:
    return [hit.text for hit in result.hits]


async def test_the_passage_that_answers_comes_first(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, LESSON)
    result = await search(database, org_id, persona_id, "How is simple interest calculated?")
    assert texts(result)[0] == LESSON[1]
    assert result.language == "en"


async def test_the_same_question_gives_the_same_result(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, LESSON + LESSON[:0] + [f"Filler {n} of the rate" for n in range(9)])
    first = await search(database, org_id, persona_id, "What is the rate?")
    assert await search(database, org_id, persona_id, "What is the rate?") == first


async def test_text_is_found_by_keyword_before_its_vectors_are_there(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, LESSON, vectors=False)
    hit = (await search(database, org_id, persona_id, "the bus to Huye")).hits[0]
    assert hit.text == LESSON[2]
    assert hit.dense_score == 0.0
    assert hit.bm25_score > 0


async def test_vectors_of_a_source_that_is_not_complete_are_not_used(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    source_id = await add_source(database, org_id, persona_id, LESSON)
    async with database.unit_of_work(org_id) as session:
        await session.execute(
            text("UPDATE knowledge_sources SET searchable = 'keyword' WHERE id = :id"), {"id": source_id}
        )
    result = await search(database, org_id, persona_id, "ratio")
    assert {hit.dense_score for hit in result.hits} == {0.0}


async def test_a_deleted_source_is_never_found(database: SavepointDatabase, org_id: UUID, persona_id: UUID) -> None:
    source_id = await add_source(database, org_id, persona_id, LESSON)
    await tombstone(database, org_id, source_id)
    assert (await search(database, org_id, persona_id, "simple interest")).hits == ()


async def test_another_personas_material_is_never_found(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    other = await add_persona(database, org_id, name="Claudine")
    await add_source(database, org_id, other, LESSON)
    assert (await search(database, org_id, persona_id, "simple interest")).hits == ()


async def test_another_organisations_material_is_never_found(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, LESSON)
    stranger = new_id()
    assert (await search(database, stranger, persona_id, "simple interest")).hits == ()


async def test_a_question_without_a_known_word_still_finds_by_meaning_only(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, LESSON)
    result = await search(database, org_id, persona_id, "zzz qqq")
    assert {hit.bm25_score for hit in result.hits} == {0.0}


async def test_no_more_hits_than_asked_for(database: SavepointDatabase, org_id: UUID, persona_id: UUID) -> None:
    await add_source(database, org_id, persona_id, LESSON)
    assert len((await search(database, org_id, persona_id, "ratio of the amount", top_k=2)).hits) == 2


@pytest.mark.parametrize("fusion", ["relative", "rrf"])
async def test_alpha_of_one_orders_by_meaning_and_of_zero_by_keyword(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID, fusion: str
) -> None:
    await add_source(database, org_id, persona_id, LESSON)
    question = "divide the amount in a ratio by parts"
    dense = await search(database, org_id, persona_id, question, alpha=1.0, fusion=fusion)
    keyword = await search(database, org_id, persona_id, question, alpha=0.0, fusion=fusion)
    assert [hit.dense_score for hit in dense.hits] == sorted((hit.dense_score for hit in dense.hits), reverse=True)
    assert [hit.bm25_score for hit in keyword.hits] == sorted((hit.bm25_score for hit in keyword.hits), reverse=True)


async def test_diacritics_and_case_do_not_decide_what_is_found(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, ["L'élève résout l'équation avec son professeur à l'école."])
    hits = (await search(database, org_id, persona_id, "EQUATION ECOLE")).hits
    assert hits[0].bm25_score > 0


FRENCH = "Les pourcentages expriment un nombre comme une fraction de cent, et les taux d'intérêt aussi."


async def test_a_passage_in_another_language_than_its_source_is_found_by_its_words(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, [*LESSON, FRENCH])
    hits = (await search(database, org_id, persona_id, "pourcentages", alpha=0.0, top_k=1)).hits
    assert [(hit.text, hit.language, hit.bm25_score > 0) for hit in hits] == [(FRENCH, "fr", True)]


async def test_a_word_weighs_the_same_in_whatever_language_a_passage_was_taken_to_be(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of many like passages was mistaken for another language, which must not put it first."""
    passages = [f"Number {number} of the rates that the bank asked for." for number in range(9)]
    monkeypatch.setattr(index_rows, "detect_language", lambda text: "rw" if "Number 4" in text else "en")
    await add_source(database, org_id, persona_id, passages)
    hits = (await search(database, org_id, persona_id, "What are the rates of the bank?", top_k=9)).hits
    scores = {hit.text: hit.bm25_score for hit in hits}
    assert 0 < scores[passages[4]] <= min(scores[passage] for passage in passages)


async def test_vectors_of_another_model_are_not_compared_and_their_text_is_found_by_keyword(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    source_id = await add_source(database, org_id, persona_id, LESSON)
    async with database.unit_of_work(org_id) as session:
        await session.execute(
            text("UPDATE knowledge_sources SET embedding_model = 'another' WHERE id = :id"), {"id": source_id}
        )
    hit = (await search(database, org_id, persona_id, "the bus to Huye")).hits[0]
    assert (hit.text, hit.dense_score, hit.bm25_score > 0) == (LESSON[2], 0.0, True)


def reference_bm25(documents: Sequence[Sequence[str]], query: Sequence[str]) -> list[float]:
    """Lucene's BM25, written from its definition."""
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts = Counter(document)
        score = 0.0
        for term in query:
            df = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            norm = retrieval.K1 * (1 - retrieval.B + retrieval.B * len(document) / average)
            score += idf * counts[term] / (counts[term] + norm)
        scores.append(score)
    return scores


async def test_bm25_scores_equal_the_definition_over_several_sources(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID
) -> None:
    await add_source(database, org_id, persona_id, LESSON[:2])
    await add_source(database, org_id, persona_id, LESSON[2:], vectors=False)
    deleted = await add_source(database, org_id, persona_id, ["interest interest interest ratio"])
    await tombstone(database, org_id, deleted)
    question = "interest and the ratio of the amount by time"
    documents = [analyse(passage, "en") for passage in LESSON]
    expected = dict(zip(LESSON, reference_bm25(documents, [*dict.fromkeys(analyse(question, "en"))]), strict=True))
    found = {hit.text: hit.bm25_score for hit in (await search(database, org_id, persona_id, question, top_k=10)).hits}
    assert {passage: score for passage, score in found.items() if score} == pytest.approx(
        {passage: score for passage, score in expected.items() if score}
    )


async def test_bm25_of_a_source_in_many_segments_is_that_of_one(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = [*LESSON, "Interest is paid on the amount and on the interest before."]
    other = await add_persona(database, org_id, name="Keza")
    await add_source(database, org_id, persona_id, passages)
    monkeypatch.setattr(index_rows, "SEGMENT_CHUNKS", 2)
    await add_source(database, org_id, other, passages)
    question = "interest and the ratio of the amount by time"
    one, many = [await search(database, org_id, persona, question, top_k=10) for persona in (persona_id, other)]
    assert {hit.text: hit.bm25_score for hit in one.hits} == pytest.approx(
        {hit.text: hit.bm25_score for hit in many.hits}
    )
    async with database.superuser() as connection:
        segments = await connection.execute(text("SELECT DISTINCT segment FROM postings ORDER BY 1"))
    assert list(segments.scalars()) == [0, 1, 2]


async def test_the_index_walk_above_the_exact_limit_finds_the_nearest_too(
    database: SavepointDatabase, org_id: UUID, persona_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_source(database, org_id, persona_id, [f"{passage} {n} {n % 7}" for n in range(60) for passage in LESSON])
    embedder = FakeEmbedder()
    scope = {"org_id": org_id, "persona_id": persona_id}

    async def nearest(session: AsyncSession) -> dict[UUID, float]:
        material = await retrieval.find_material(session, **scope, embedding_model=embedder.name)
        query = await embedder.embed_query("simple interest and the rate 5 of 12")
        return await retrieval.search_vectors(session, **scope, material=material, query=query, limit=10)

    async with database.unit_of_work(org_id) as session:
        exact = await nearest(session)
        monkeypatch.setattr(retrieval, "EXACT_LIMIT", 0)
        # Of so few vectors PostgreSQL would compare all by itself.
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            await session.execute(text(f"SET LOCAL {setting} = off"))
        assert "ix_chunk_vectors_embedding" in await indexes_of(session, nearest(session))
        walked = await nearest(session)
    assert list(walked.values()) == pytest.approx(list(exact.values()))
