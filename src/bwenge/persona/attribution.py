"""The source of an answer that came without a marker, as small models write them."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from bwenge.persona.evidence import Evidence
from bwenge.persona.lexical import QuestionTerms, content_terms
from bwenge.providers.embedding.base import Embedder

_LEAST_MATCH = 0.55
_LONGEST_COMPARED = 2_000


async def attributed_marker(answer: str, evidence: Evidence, *, embedder: Embedder) -> int | None:
    """The number of the source that says what the answer says; None when no source clearly does.

    A source matches by the mean of two measures in [0, 1]: the share of the answer's words that its text holds, and
    the cosine of its nearest sentence.
    """
    if not evidence.hits:
        return None
    vector = await embedder.embed_query(answer[:_LONGEST_COMPARED])
    return await asyncio.to_thread(_best_match, answer[:_LONGEST_COMPARED], vector, evidence)


def _best_match(answer: str, vector: NDArray[np.float32], evidence: Evidence) -> int | None:
    texts = [frozenset(content_terms(hit.text, evidence.language)) for hit in evidence.hits]
    weighed = QuestionTerms(content_terms(answer, evidence.language), texts)
    cosines = [0.0] * len(evidence.hits)
    for candidate in evidence.candidates:
        index = candidate.sentence.hit
        cosines[index] = max(cosines[index], float(candidate.vector @ vector))
    matches = [(weighed.coverage(terms) + cosine) / 2 for terms, cosine in zip(texts, cosines, strict=True)]
    best = max(range(len(matches)), key=matches.__getitem__)
    return best + 1 if matches[best] >= _LEAST_MATCH else None
