"""When a persona should say that its material does not hold the answer: `python -m bench.abstention [--fit]`.

Each set is divided by article into four groups. A persona's material is one group; questions about it have an
answer ("held"), questions about another group have none ("elsewhere"), and SQuAD's unanswerable questions ask about
the right paragraph for what it does not say ("beside"). Groups 0 and 1 fit the weights of `persona.grounding`,
groups 2 and 3 measure them. A held question whose passage retrieval did not find counts neither way.
"""

import argparse
import asyncio
import json
import math
import pickle
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from bwenge.knowledge.contract import SearchHit, SearchResult
from bwenge.persona.evidence import gather_evidence
from bwenge.persona.grounding import ABSTAIN_BELOW, Signals, Situation, signals_of, support_score
from bwenge.persona.lexical import content_terms
from bwenge.persona.statements import sentences_of
from bwenge.providers.embedding.minilm import MiniLMEmbedder

DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "qa"
CACHE: Final = Path("/tmp/bwenge-bench")  # noqa: S108  # only vectors of public texts; a bench has no data directory

FIT_GROUPS: Final = ((0, 1), (1, 0))
TEST_GROUPS: Final = ((2, 3), (3, 2))
GROUPS: Final = 4
CHUNK_WORDS: Final = 350
TOP_K: Final = 5
FALSE_ABSTENTIONS: Final = {Situation.ENGLISH: 0.06, Situation.SAME_LANGUAGE: 0.11, Situation.CROSS_LANGUAGE: 0.19}
"""The share of held questions that the threshold may refuse while it is fitted: less where the classes part well."""


@dataclass(frozen=True)
class QuestionSet:
    """A set and the languages of its questions and passages; `passages` bounds how many are read."""

    name: str
    question_language: str
    passage_language: str
    passages: int = 10_000

    @property
    def situation(self) -> Situation:
        if self.question_language != self.passage_language:
            return Situation.CROSS_LANGUAGE
        return Situation.ENGLISH if self.question_language == "en" else Situation.SAME_LANGUAGE


SETS: Final = (
    QuestionSet("squad_en", "en", "en"),
    QuestionSet("piaf_fr", "fr", "fr"),
    QuestionSet("masakhanews_swa", "sw", "sw", passages=200),
    QuestionSet("masakhanews_run", "rw", "rw", passages=200),
    QuestionSet("afriqa_kin_en", "rw", "en"),
    QuestionSet("afriqa_swa_en", "sw", "en"),
)


@dataclass
class Measured:
    """Signals of the questions of one set by class: held, beside, elsewhere, trivia."""

    classes: dict[str, list[Signals]] = field(default_factory=dict)

    def add(self, name: str, signals: Signals) -> None:
        self.classes.setdefault(name, []).append(signals)


class CachedEmbedder:
    """MiniLM behind a file of vectors, because the same sentences are compared in every run."""

    def __init__(self, embedder: MiniLMEmbedder, file: Path) -> None:
        self._embedder = embedder
        self._file = file
        self._vectors: dict[str, NDArray[np.float32]] = {}
        if file.exists():
            self._vectors = pickle.loads(file.read_bytes())  # noqa: S301  # this bench's own, of an earlier run
        self.name = embedder.name
        self.dimensions = embedder.dimensions
        self.max_tokens = embedder.max_tokens
        self.tokenizer = embedder.tokenizer

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        del urgent
        missing = sorted({text for text in texts if text not in self._vectors}, key=len)
        if missing:
            self._vectors.update(zip(missing, await self._embedder.embed_documents(missing), strict=True))
        return np.stack([self._vectors[text] for text in texts])

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        if text not in self._vectors:
            self._vectors[text] = await self._embedder.embed_query(text)
        return self._vectors[text]

    def save(self) -> None:
        self._file.write_bytes(pickle.dumps(self._vectors))


class Index:
    """Hybrid search over one persona's material, in memory: cosine of mean sentence vectors, and BM25."""

    def __init__(self, hits: Sequence[SearchHit], vectors: NDArray[np.float32], *, language: str) -> None:
        self._hits = hits
        self._vectors = vectors
        self._language = language
        self._counts = [Counter(content_terms(f"{hit.title} {hit.text}", language)) for hit in hits]
        self._lengths = np.array([sum(counts.values()) for counts in self._counts])
        self._frequencies = Counter(term for counts in self._counts for term in counts)

    def search(self, question: str, vector: NDArray[np.float32]) -> tuple[SearchHit, ...]:
        dense, lexical = self._vectors @ vector, self._bm25(content_terms(question, self._language))
        alpha = 0.5 if self._language == "en" else 0.3
        fused = alpha * _min_max(dense) + (1 - alpha) * _min_max(lexical)
        return tuple(self._hits[index] for index in np.argsort(-fused)[:TOP_K])

    def _bm25(self, terms: Iterable[str], *, k1: float = 1.2, b: float = 0.75) -> NDArray[np.float64]:
        scores = np.zeros(len(self._hits))
        norms = k1 * (1 - b + b * self._lengths / self._lengths.mean())
        for term in set(terms) & self._frequencies.keys():
            frequency = self._frequencies[term]
            weight = math.log(1 + (len(self._hits) - frequency + 0.5) / (frequency + 0.5))
            occurrences = np.array([counts[term] for counts in self._counts])
            scores += weight * occurrences * (k1 + 1) / (occurrences + norms)
        return scores


def _min_max(scores: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = (scores - scores.min()) / (np.ptp(scores) + 1e-9)
    return scaled


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def group_of(passage: Mapping[str, Any]) -> int:
    return zlib.crc32((passage["title"] or passage["_id"]).encode()) % GROUPS


def chunks_of(passages: Sequence[Mapping[str, Any]], *, language: str) -> tuple[list[SearchHit], dict[str, int]]:
    """Neighbouring passages of an article joined to the size of a chunk, and which chunk each passage is in."""
    texts: list[list[str]] = []
    titles: list[str] = []
    chunk_of: dict[str, int] = {}
    for passage in passages:
        words = passage["text"].split(" ")[: 2 * CHUNK_WORDS]
        size = sum(len(text.split()) for text in texts[-1]) if texts else 0
        title = passage["title"] or passage["_id"]
        if not texts or titles[-1] != title or size + len(words) > CHUNK_WORDS:
            texts.append([])
            titles.append(title)
        texts[-1].append(" ".join(words))
        chunk_of[passage["_id"]] = len(texts) - 1
    hits = [
        SearchHit(
            chunk_id=uuid5(NAMESPACE_URL, f"{number}{title}"),
            source_id=uuid5(NAMESPACE_URL, title),
            title=title,
            text="\n\n".join(parts),
            language=language,
            locator={},
            score=0.0,
            dense_score=0.0,
            bm25_score=0.0,
        )
        for number, (title, parts) in enumerate(zip(titles, texts, strict=True))
    ]
    return hits, chunk_of


async def indexed(hits: Sequence[SearchHit], embedder: CachedEmbedder, *, language: str) -> Index:
    vectors = []
    for hit in hits:
        sentences = [sentence.text for sentence in sentences_of([hit])] or [hit.text]
        mean = (await embedder.embed_documents(sentences)).sum(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    return Index(hits, np.stack(vectors), language=language)


async def measure(
    questions: QuestionSet, groups: Sequence[tuple[int, int]], *, embedder: CachedEmbedder, most: int
) -> Measured:
    folder = DATA / questions.name
    passages = read_lines(folder / "corpus.jsonl")[: questions.passages]
    group = {passage["_id"]: group_of(passage) for passage in passages}
    asked = read_lines(folder / "queries.jsonl")
    random.Random(7).shuffle(asked)
    measured = Measured()
    for inside, outside in groups:
        hits, chunk_of = chunks_of(
            [passage for passage in passages if group[passage["_id"]] == inside], language=questions.passage_language
        )
        index = await indexed(hits, embedder, language=questions.question_language)
        for name, chosen in _classes(asked, group, inside=inside, outside=outside).items():
            for question in chosen[:most]:
                text = question["text"]
                found = index.search(text, await embedder.embed_query(text))
                if name == "held" and hits[chunk_of[question["doc"]]] not in found:
                    continue
                result = SearchResult(found, questions.question_language)
                measured.add(name, signals_of(await gather_evidence(text, result, embedder=embedder)))
    return measured


def _classes(
    asked: Sequence[dict[str, Any]], group: Mapping[str, int], *, inside: int, outside: int
) -> dict[str, list[dict[str, Any]]]:
    classes: dict[str, list[dict[str, Any]]] = {
        "held": [question for question in asked if group.get(question.get("doc", "")) == inside],
        "beside": [question for question in asked if group.get(question.get("near_doc", "")) == inside],
        "elsewhere": [question for question in asked if group.get(question.get("doc", "")) == outside],
    }
    if asked[0]["lang"] == "en":
        trivia = read_lines(DATA / "afriqa_kin_en" / "queries.jsonl")
        classes["trivia"] = [{"text": question["text_pivot"]} for question in trivia]
    return classes


def fit(
    samples: Sequence[Measured], situation: Situation, *, penalty: float = 3e-3
) -> tuple[NDArray[np.float64], float]:
    """Logistic regression by Newton's method, every set and class weighing the same.

    Returns the weights of the signals, and the intercept at which `FALSE_ABSTENTIONS` of the held questions score
    below `ABSTAIN_BELOW`.
    """
    rows, targets, shares = [], [], []
    for sample in samples:
        for name, target in (("held", 1.0), ("elsewhere", 0.0)):
            signals = sample.classes[name]
            rows += [(*astuple(one), 1.0) for one in signals]
            targets += [target] * len(signals)
            shares += [1 / len(signals)] * len(signals)
    x, y, share = np.array(rows), np.array(targets), np.array(shares) / np.mean(shares)
    ridge = penalty * len(y) * np.diag([1.0] * (x.shape[1] - 1) + [0.0])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (share * (probability - y)) + ridge @ weights
        curvature = (x * (share * probability * (1 - probability))[:, None]).T @ x + ridge
        weights -= np.linalg.solve(curvature, gradient)
    held = np.quantile((x @ weights)[y == 1], FALSE_ABSTENTIONS[situation])
    return weights[:-1], float(weights[-1] - held)


def scores(sample: Measured, situation: Situation) -> dict[str, NDArray[np.float64]]:
    return {
        name: np.array([support_score(one, situation) for one in signals]) for name, signals in sample.classes.items()
    }


def curve(scored: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """The share of each class that is refused at each threshold."""
    header = f"{'below':>8} " + " ".join(f"{name:>10}" for name in scored)
    lines = [
        f"{threshold:>8.2f} " + " ".join(f"{np.mean(values < threshold):>10.3f}" for values in scored.values())
        for threshold in (0.1, 0.2, 0.3, 0.4, ABSTAIN_BELOW, 0.6, 0.7, 0.8, 0.9)
    ]
    return [header, *lines, f"{'n':>8} " + " ".join(f"{len(values):>10}" for values in scored.values())]


async def _run(*, most: int, fitting: bool, verbose: bool) -> dict[str, float]:
    CACHE.mkdir(exist_ok=True)
    embedder = CachedEmbedder(MiniLMEmbedder.load(CACHE), CACHE / "abstention-vectors.pickle")
    figures: dict[str, float] = {}
    for questions in SETS:
        sample = scores(await measure(questions, TEST_GROUPS, embedder=embedder, most=most), questions.situation)
        for name, values in sample.items():
            figures[f"{questions.name}_{name}_refused"] = float(np.mean(values < ABSTAIN_BELOW))
        if verbose:
            print(f"\n{questions.name} ({questions.situation.value})", *curve(sample), sep="\n")
        embedder.save()
    for situation in Situation if fitting else ():
        learnt = [questions for questions in SETS if questions.situation is situation]
        samples = [await measure(questions, FIT_GROUPS, embedder=embedder, most=most) for questions in learnt]
        weights, intercept = fit(samples, situation)
        print(f"Situation.{situation.name}: Weights({tuple(weights.round(2).tolist())}, {intercept:.2f}),")
    embedder.save()
    return figures


def run(*, most: int = 200, fitting: bool = False, verbose: bool = False) -> dict[str, float]:
    """The share of questions refused at the default threshold, for each set and class; `most` of a class in a group."""
    return asyncio.run(_run(most=most, fitting=fitting, verbose=verbose))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="also print weights fitted to the other half of the sets")
    parser.add_argument("--most", type=int, default=200, help="questions of one class in one group")
    arguments = parser.parse_args()
    run(most=arguments.most, fitting=arguments.fit, verbose=True)
