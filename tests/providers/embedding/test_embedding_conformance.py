"""One body of tests over every embedder."""

import asyncio

import numpy as np
import pytest

from bwenge.providers.embedding.base import Embedder
from bwenge.providers.embedding.windows import split_windows

SENTENCES = [
    "Plants turn sunlight into sugar.",
    "Amazi ni ubuzima.",
    "L'eau bout à cent degrés au niveau de la mer.",
    "The receipt is paid with mobile money.",
]
ODD_TEXTS = {
    "empty": "",
    "spaces": " \n\t ",
    "emoji": "🙂🙃",
    "control characters": "\x00\x07",
    "lone surrogate": "broken \ud800 text",
    "one endless word": "a" * 5000,
    "special token spelt out": "[CLS] [SEP] [PAD]",
    "Hangul": "안녕하세요 " * 300,
}


async def test_documents_give_one_float32_row_each(embedder: Embedder) -> None:
    vectors = await embedder.embed_documents(SENTENCES)

    assert vectors.shape == (len(SENTENCES), embedder.dimensions)
    assert vectors.dtype == np.float32


async def test_no_documents_give_no_rows(embedder: Embedder) -> None:
    vectors = await embedder.embed_documents([])

    assert vectors.shape == (0, embedder.dimensions)


async def test_a_query_gives_one_float32_vector(embedder: Embedder) -> None:
    vector = await embedder.embed_query(SENTENCES[0])

    assert vector.shape == (embedder.dimensions,)
    assert vector.dtype == np.float32


async def test_a_text_has_the_same_vector_as_query_and_as_document(embedder: Embedder) -> None:
    as_query = await embedder.embed_query(SENTENCES[0])
    as_document = (await embedder.embed_documents(SENTENCES))[0]

    np.testing.assert_allclose(as_query, as_document, atol=1e-5)


async def test_rows_keep_the_order_of_texts_of_mixed_length(embedder: Embedder) -> None:
    texts = [f"{sentence} " * repetitions for sentence in SENTENCES for repetitions in (30, 1, 90, 7)]

    together = await embedder.embed_documents(texts)
    alone = np.stack([await embedder.embed_query(text) for text in texts])

    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
async def test_every_text_has_a_unit_vector(embedder: Embedder, text: str) -> None:
    document = (await embedder.embed_documents([text]))[0]
    query = await embedder.embed_query(text)

    assert np.linalg.norm(document) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)


async def test_texts_that_share_words_are_nearer_than_texts_that_share_none(embedder: Embedder) -> None:
    vectors = await embedder.embed_documents(
        ["the volcano near the lake", "a lake beside a volcano", "parliament debates taxes"]
    )

    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


async def test_the_end_of_a_long_text_changes_its_vector(embedder: Embedder) -> None:
    start = "photosynthesis happens in the leaf " * 100

    plain, ending = await embedder.embed_documents([start, start + "banks lend money to farmers " * 50])

    assert plain @ ending < 0.95


async def test_concurrent_calls_do_not_mix_their_texts(embedder: Embedder) -> None:
    expected = await embedder.embed_documents(SENTENCES)

    documents, *queries = await asyncio.gather(
        embedder.embed_documents(SENTENCES), *(embedder.embed_query(sentence) for sentence in SENTENCES)
    )

    np.testing.assert_allclose(documents, expected, atol=1e-5)
    np.testing.assert_allclose(np.stack(queries), expected, atol=1e-5)


def test_offsets_are_ordered_spans_of_the_text_and_as_many_as_counted(embedder: Embedder) -> None:
    text = "Ünïcode, 한국어 and photosynthesis; amazi n'ubuzima 🙂."

    offsets = embedder.tokenizer.offsets(text)

    assert len(offsets) == embedder.tokenizer.count(text)
    assert offsets == sorted(offsets)
    assert all(0 <= start < end <= len(text) for start, end in offsets)


def test_counting_is_not_capped_at_what_the_model_reads(embedder: Embedder) -> None:
    assert embedder.tokenizer.count("water " * 1000) == 1000


def test_an_empty_text_has_no_pieces(embedder: Embedder) -> None:
    assert embedder.tokenizer.count("") == 0
    assert embedder.tokenizer.offsets("") == []


async def test_a_long_text_is_the_renormalised_mean_of_its_windows(embedder: Embedder) -> None:
    text = " ".join(f"item {number} of the list about rivers" for number in range(90))
    windows = split_windows(text, embedder.tokenizer, embedder.max_tokens)
    assert len(windows) > 1

    mean = (await embedder.embed_documents(windows)).mean(axis=0)
    whole = await embedder.embed_query(text)

    # The fake reads a text of any length at once, so there the overlap of windows counts once instead of twice.
    assert whole @ (mean / np.linalg.norm(mean)) == pytest.approx(1, abs=1e-3)
