from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bwenge.knowledge.contract import SearchResult
from bwenge.persona.evidence import MAX_CANDIDATES, gather_evidence
from bwenge.persona.statements import Kind
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.personas import PHOTOSYNTHESIS, RESPIRATION, ROMANS, hit


class CountingEmbedder(FakeEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        del urgent
        self.batches.append(len(texts))
        return await super().embed_documents(texts)


async def test_only_fit_sentences_are_compared() -> None:
    result = SearchResult((hit(PHOTOSYNTHESIS),), "en")
    evidence = await gather_evidence("What does photosynthesis release?", result, embedder=FakeEmbedder())
    assert [candidate.sentence.position for candidate in evidence.candidates] == [1, 2]
    assert len(evidence.sentences) == 5


async def test_sentences_are_embedded_in_one_bounded_batch() -> None:
    long = " ".join(f"Fact number {number} tells of plants and light." for number in range(100))
    embedder = CountingEmbedder()
    hits = (hit(long), hit(RESPIRATION))
    evidence = await gather_evidence("What frees energy?", SearchResult(hits, "en"), embedder=embedder)
    assert embedder.batches == [MAX_CANDIDATES]
    assert any(candidate.sentence.hit == 1 for candidate in evidence.candidates)


async def test_without_a_shared_word_the_beginnings_of_all_chunks_are_compared() -> None:
    result = SearchResult((hit(PHOTOSYNTHESIS), hit(RESPIRATION), hit(ROMANS)), "rw")
    evidence = await gather_evidence("Ibimera bihumeka bite?", result, embedder=FakeEmbedder())
    assert {candidate.sentence.hit for candidate in evidence.candidates} == {0, 1, 2}


async def test_the_sentence_that_shares_meaning_words_scores_best() -> None:
    result = SearchResult((hit(ROMANS), hit(RESPIRATION)), "en")
    evidence = await gather_evidence("Where is sugar broken down?", result, embedder=FakeEmbedder())
    best = max(evidence.candidates, key=lambda candidate: candidate.score)
    assert best.sentence.text.startswith("Respiration breaks sugar down")


async def test_a_fragment_scores_less_than_the_same_words_in_a_sentence() -> None:
    result = SearchResult((hit("sugar is stored in roots\n\nSugar is stored in roots."),), "en")
    evidence = await gather_evidence("Where is sugar stored?", result, embedder=FakeEmbedder())
    scores = {candidate.sentence.kind: candidate.score for candidate in evidence.candidates}
    assert scores[Kind.FRAGMENT] < scores[Kind.STATEMENT]


async def test_names_that_no_chunk_mentions_are_counted() -> None:
    result = SearchResult((hit(ROMANS),), "en")
    known = await gather_evidence("How far was the army from Rome?", result, embedder=FakeEmbedder())
    unknown = await gather_evidence("How far was the army from Carthage?", result, embedder=FakeEmbedder())
    assert known.missing_names == pytest.approx(0.0)
    assert unknown.missing_names == pytest.approx(1.0)


async def test_no_hits_give_empty_evidence() -> None:
    evidence = await gather_evidence("Anything?", SearchResult((), "en"), embedder=FakeEmbedder())
    assert (evidence.hits, evidence.sentences, evidence.candidates) == ((), (), ())
