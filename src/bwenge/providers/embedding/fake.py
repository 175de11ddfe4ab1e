"""An embedder without a model: hashed bags of words, so that texts which share words are near."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


class FakeTokenizer:
    """One piece for each word and each punctuation mark."""

    def count(self, text: str) -> int:
        return len(_WORD_OR_MARK.findall(text))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD_OR_MARK.finditer(text)]


class FakeEmbedder:
    """Vectors depend only on the words and their number, the same in every process and on every machine.

    Each word adds one at a coordinate chosen by its hash ("feature hashing", Weinberger et al., 2009), the mean of
    windows included, so no text is ever cut. A text without words gets the first unit vector.
    """

    name = "fake-bag-of-words"
    max_tokens = 254

    def __init__(self, *, dimensions: int = 384) -> None:
        self.dimensions = dimensions
        self.tokenizer = FakeTokenizer()

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        del urgent
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            vector[:] = self._embed(text)
        return vectors

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        return self._embed(text)

    def _embed(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dimensions, dtype=np.float32)
        for word in _WORD_OR_MARK.findall(text.lower()):
            digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
            vector[int.from_bytes(digest) % self.dimensions] += 1
        if not vector.any():
            vector[0] = 1
        vector /= np.linalg.norm(vector)
        return vector
