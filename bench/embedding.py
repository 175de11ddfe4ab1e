"""The local embedder against bare onnxruntime: `python -m bench.embedding`."""

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from onnxruntime import InferenceSession

from bwenge.providers.embedding.graph_cache import cached_graph, published_model_directory
from bwenge.providers.embedding.minilm import (
    BATCH_TOKENS,
    MiniLMEmbedder,
    Window,
    batches_by_length,
    model_input,
)

QUERY = "How does a leaf turn light into sugar?"
MIB = 1024 * 1024


def run(*, texts: int = 48, rounds: int = 3) -> dict[str, float]:
    """Texts of 256 tokens embedded per second, the same by `session.run` alone, and what a live query waits.

    The two take turns batch by batch and `ratio` is the median over the turns, so that other work on the machine,
    which slows both, leaves it alone. Times are in milliseconds; `resident_mib` is the process before bare
    onnxruntime joins it, with nearly every word embedding touched, because the words are random.
    """
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_measure(Path(directory), _full_length_texts(texts), rounds=rounds))


async def _measure(cache_dir: Path, texts: Sequence[str], *, rounds: int) -> dict[str, float]:
    graph = cached_graph(cache_dir)
    started = time.perf_counter()
    embedder = MiniLMEmbedder.load(cache_dir)
    load_seconds = time.perf_counter() - started
    await embedder.embed_documents(texts)
    idle = await _query_times(embedder, 50)
    indexing = asyncio.create_task(embedder.embed_documents(texts))
    busy = await _query_times(embedder, 20)
    await indexing
    resident = psutil.Process().memory_info().rss
    pairs = await _paired_rates(
        embedder, InferenceSession(graph, providers=["CPUExecutionProvider"]), texts, rounds=rounds
    )
    return {
        "texts_per_second": statistics.median(ours for ours, _ in pairs),
        "bare_texts_per_second": statistics.median(bare for _, bare in pairs),
        "ratio": statistics.median(ours / bare for ours, bare in pairs),
        "query_ms": statistics.median(idle),
        "query_while_indexing_ms": statistics.median(busy),
        "query_while_indexing_max_ms": max(busy),
        "load_ms": load_seconds * 1000,
        "resident_mib": resident / MIB,
    }


async def _paired_rates(
    embedder: MiniLMEmbedder, bare: InferenceSession, texts: Sequence[str], *, rounds: int
) -> list[tuple[float, float]]:
    """(ours, bare) in texts per second, batch by batch in turn."""
    windows = [Window(index, embedder.tokenizer.token_ids(text)) for index, text in enumerate(texts)]
    batches = list(batches_by_length(windows, max_tokens=BATCH_TOKENS))
    bare.run(None, model_input(batches[0]))
    pairs = []
    for batch in batches * rounds:
        batch_texts, batch_input = [texts[window.text_index] for window in batch], model_input(batch)
        start = time.perf_counter()
        await embedder.embed_documents(batch_texts)
        middle = time.perf_counter()
        bare.run(None, batch_input)
        end = time.perf_counter()
        pairs.append((len(batch) / (middle - start), len(batch) / (end - middle)))
    return pairs


async def _query_times(embedder: MiniLMEmbedder, number: int) -> list[float]:
    """Milliseconds of queries that come one after the other, 20 ms apart as from people, not in a closed loop."""
    times = []
    for _ in range(number):
        await asyncio.sleep(0.02)
        start = time.perf_counter()
        await embedder.embed_query(QUERY)
        times.append((time.perf_counter() - start) * 1000)
    return times


def _full_length_texts(number: int) -> list[str]:
    """Random words that are one piece each, so many that the special tokens make it 256."""
    vocabulary = (published_model_directory() / "vocab.txt").read_text(encoding="utf-8").split()
    words = [word for word in vocabulary if word.isascii() and word.isalpha()]
    choice = random.Random(7)
    return [" ".join(choice.choices(words, k=MiniLMEmbedder.max_tokens)) for _ in range(number)]


if __name__ == "__main__":
    print(json.dumps({name: round(figure, 2) for name, figure in run().items()}, indent=2))
