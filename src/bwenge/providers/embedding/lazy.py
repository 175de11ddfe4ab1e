"""An embedder that is loaded when it is first needed, for processes of which many never need it."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bwenge.providers.embedding.base import Embedder, Tokenizer


class LazyEmbedder:
    """Stands for the embedder that `load` makes. Loading takes a moment: the first use belongs on a thread."""

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._loaded: Embedder | None = None
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        return self._embedder.tokenizer

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        return await self._embedder.embed_documents(texts, urgent=urgent)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        return await self._embedder.embed_query(text)

    @property
    def _embedder(self) -> Embedder:
        with self._turn:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded
