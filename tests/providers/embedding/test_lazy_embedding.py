"""An embedder that is loaded when it is needed, once, and is then as good as the one it stands for."""

import asyncio

import numpy as np

from bwenge.providers.embedding.base import Embedder
from bwenge.providers.embedding.fake import FakeEmbedder
from bwenge.providers.embedding.lazy import LazyEmbedder


class Loading:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Embedder:
        self.count += 1
        return FakeEmbedder()


async def test_nothing_is_loaded_before_the_first_use_and_once_by_many() -> None:
    loading = Loading()
    embedder: Embedder = LazyEmbedder(loading)
    assert loading.count == 0
    names = await asyncio.gather(*(asyncio.to_thread(lambda: embedder.name) for _ in range(8)))
    assert (set(names), loading.count) == ({FakeEmbedder.name}, 1)


async def test_it_embeds_as_the_one_it_stands_for() -> None:
    lazy, plain = LazyEmbedder(FakeEmbedder), FakeEmbedder()
    assert (lazy.dimensions, lazy.max_tokens) == (plain.dimensions, plain.max_tokens)
    assert lazy.tokenizer.count("The well is deep.") == plain.tokenizer.count("The well is deep.")
    np.testing.assert_array_equal(await lazy.embed_query("well"), await plain.embed_query("well"))
    np.testing.assert_array_equal(await lazy.embed_documents(["a", "b"]), await plain.embed_documents(["a", "b"]))
