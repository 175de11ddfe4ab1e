"""A model that is loaded when it is first asked: most processes of a split platform never ask."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bwenge.providers.embedding.base import Embedder, Tokenizer


class LazyEmbedder:
    """Args: load: makes the model; called once, and again where it failed."""

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._loading = threading.Lock()
        self._loaded: Embedder | None = None

    def load(self) -> Embedder:
        """The model itself. Waits without an event loop."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    @property
    def name(self) -> str:
        return self.load().name

    @property
    def dimensions(self) -> int:
        return self.load().dimensions

    @property
    def max_tokens(self) -> int:
        return self.load().max_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        return self.load().tokenizer

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        return await (await self._model()).embed_documents(texts, urgent=urgent)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        return await (await self._model()).embed_query(text)

    async def _model(self) -> Embedder:
        return self._loaded if self._loaded is not None else await asyncio.to_thread(self.load)
