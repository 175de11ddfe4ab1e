"""What the retrieved chunks say about a question, sentence by sentence."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bwenge.knowledge.contract import SearchHit, SearchResult
from bwenge.persona.lexical import QuestionTerms, content_terms, name_terms
from bwenge.persona.statements import Kind, Sentence, sentences_of
from bwenge.providers.embedding.base import Embedder

MAX_CANDIDATES: Final = 16
"""Sentences embedded for one question, in one batch; more of them found no more of SQuAD's and PIAF's answers."""

_DENSE_SHARE = 0.5
_FRAGMENT_PENALTY = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence compared with the question; `cosine` in [-1, 1], `coverage` in [0, 1], `vector` of unit length."""

    sentence: Sentence
    cosine: float
    coverage: float
    vector: NDArray[np.float32]

    @property
    def score(self) -> float:
        penalty = _FRAGMENT_PENALTY if self.sentence.kind is Kind.FRAGMENT else 0.0
        return _DENSE_SHARE * self.cosine + (1 - _DENSE_SHARE) * self.coverage - penalty


@dataclass(frozen=True, slots=True)
class Evidence:
    """The hits of one question and their sentences.

    Attributes:
        sentences: All of them, in the order of the hits and of their texts.
        candidates: Those that were compared and may be said as an answer, in the same order.
        hit_coverages: For each hit the share in [0, 1] of the question's weight that its text holds.
        missing_names: Share in [0, 1] of the question's names and numbers, weighed likewise, that no hit mentions.
    """

    hits: tuple[SearchHit, ...]
    language: str
    sentences: tuple[Sentence, ...]
    candidates: tuple[Candidate, ...]
    hit_coverages: tuple[float, ...]
    missing_names: float

    def best_offset(self, hit: int) -> int:
        """Where in the text of that hit the sentence stands that says most about the question."""
        own = [candidate for candidate in self.candidates if candidate.sentence.hit == hit]
        return max(own, key=lambda candidate: candidate.score).sentence.start if own else 0


async def gather_evidence(question: str, result: SearchResult, *, embedder: Embedder) -> Evidence:
    """Compares at most `MAX_CANDIDATES` sentences of the hits with the question, in one batch of the embedder."""
    evidence, promising = await asyncio.to_thread(_read, question, result)
    return replace(evidence, candidates=await _compare(question, promising, embedder=embedder))


def _read(question: str, result: SearchResult) -> tuple[Evidence, list[tuple[Sentence, float]]]:
    """What the words alone say, and the sentences worth embedding with their coverage."""
    language = result.language
    sentences = sentences_of(result.hits)
    term_sets = [frozenset(content_terms(sentence.text, language)) for sentence in sentences]
    hit_terms = [set(content_terms(hit.title, language)) for hit in result.hits]
    for sentence, terms in zip(sentences, term_sets, strict=True):
        hit_terms[sentence.hit] |= terms
    weighed = QuestionTerms(content_terms(question, language), term_sets)
    named = name_terms(question, language)
    names = QuestionTerms(named, term_sets)
    coverages = [weighed.coverage(terms) for terms in term_sets]
    evidence = Evidence(
        hits=result.hits,
        language=language,
        sentences=tuple(sentences),
        candidates=(),
        hit_coverages=tuple(weighed.coverage(terms) for terms in hit_terms),
        missing_names=1 - names.coverage(set[str]().union(*hit_terms)) if named else 0.0,
    )
    return evidence, [(sentences[index], coverages[index]) for index in _most_promising(sentences, coverages)]


def _most_promising(sentences: Sequence[Sentence], coverages: Sequence[float]) -> list[int]:
    """Indexes of the fit sentences to embed, in order: half by coverage, the rest by the rank of their chunk.

    The second half is what a question in another language than the material, which shares no word with it, lives on.
    """
    fit = [index for index, sentence in enumerate(sentences) if sentence.kind is not Kind.UNFIT]
    by_coverage = sorted(fit, key=lambda index: (-coverages[index], sentences[index].hit, index))
    by_rank = sorted(fit, key=lambda index: (_round_of(sentences[index]), index))
    chosen = dict.fromkeys(by_coverage[: MAX_CANDIDATES // 2])
    for index in by_rank:
        if len(chosen) >= MAX_CANDIDATES:
            break
        chosen[index] = None
    return sorted(chosen)


def _round_of(sentence: Sentence) -> int:
    """The best chunk's sentences come in sooner than those of the chunks below it, whose beginnings come in too."""
    return sentence.position * (sentence.hit + 1)


async def _compare(
    question: str, sentences: Sequence[tuple[Sentence, float]], *, embedder: Embedder
) -> tuple[Candidate, ...]:
    if not sentences:
        return ()
    vectors = await embedder.embed_documents([sentence.text for sentence, _ in sentences], urgent=True)
    cosines = vectors @ await embedder.embed_query(question)
    return tuple(
        Candidate(sentence, float(cosine), coverage, vector)
        for (sentence, coverage), cosine, vector in zip(sentences, cosines, vectors, strict=True)
    )
