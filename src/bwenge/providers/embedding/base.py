"""What an embedding model offers: texts in, unit vectors out, and the tokenizer that measures its limit."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Tokenizer(Protocol):
    """The word pieces of a text as its model sees them: without special tokens and never truncated."""

    def count(self, text: str) -> int: ...

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The half-open character span of each word piece, in order.

        Neighbouring pieces may share a span: a model that decomposes a character makes several pieces of it.
        """
        ...


class Embedder(Protocol):
    """Maps texts to vectors whose dot product is their cosine similarity.

    Texts of any length are accepted and nothing is cut silently: a text of more than `max_tokens` pieces becomes the
    renormalised mean of its windows. Who wants several vectors for a long text splits it first
    (`windows.split_windows`).
    """

    @property
    def name(self) -> str:
        """A stable id of the model, stored with each source: vectors of different models are never compared."""
        ...

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """How many word pieces of a text the model reads at once, its special tokens not counted."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        """Unit vectors of shape (len(texts), dimensions), in the order of the texts.

        Those of an `urgent` call, for which somebody waits, do not queue behind a document that is being indexed.
        """
        ...

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """One unit vector of shape (dimensions,); does not wait behind `embed_documents`."""
        ...
