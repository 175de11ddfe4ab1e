"""all-MiniLM-L6-v2 on the local CPU, by onnxruntime."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions

from bwenge.providers.embedding.graph_cache import cached_graph, published_model_directory
from bwenge.providers.embedding.windows import split_windows

MODEL_TOKENS = 256
"""What the published model reads of a text, [CLS] and [SEP] included (its sentence_bert_config.json)."""

BATCH_TOKENS = 512
"""Padded tokens in one run. Larger batches are no faster on CPU and their activations stay resident: a process
that runs two texts of 256 tokens at once holds 145 MB, with eight 216 MB."""

_SPECIAL_TOKENS = 2
_MAX_DEFAULT_THREADS = 4
_QUERY_WORKERS = 2


class WordPieceTokenizer:
    """The model's own tokenizer, safe to use from several threads at once."""

    def __init__(self, tokenizer_file: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
        # The published file asks for texts to be cut and padded to 128 tokens.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        return len(self._encode(text, special_tokens=False).ids)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return list(self._encode(text, special_tokens=False).offsets)

    def token_ids(self, text: str) -> list[int]:
        """The model's input for a text: [CLS], its word pieces, [SEP]."""
        return list(self._encode(text, special_tokens=True).ids)

    def _encode(self, text: str, *, special_tokens: bool) -> tokenizers.Encoding:
        # Rust has no lone surrogates; a question mark keeps the offsets. `encode_batch` releases the interpreter lock
        # while it works and `encode` does not: a long text would stop the event loop for its whole second.
        encodable = text.encode("utf-8", "replace").decode()
        return self._tokenizer.encode_batch([encodable], add_special_tokens=special_tokens)[0]


@dataclass(frozen=True, slots=True)
class Window:
    """Model input of a text or of a part of it: `text_index` says of which, `token_ids` has at most MODEL_TOKENS."""

    text_index: int
    token_ids: list[int]


class MiniLMEmbedder:
    """Documents are embedded by one thread in small batches, queries and what is urgent by others on the same session.

    A query therefore shares the cores with indexing but never queues behind it, and a cancelled `embed_documents`
    stops after its present batch.
    """

    name = "all-MiniLM-L6-v2"
    dimensions = 384
    max_tokens = MODEL_TOKENS - _SPECIAL_TOKENS

    def __init__(self, session: InferenceSession, tokenizer: WordPieceTokenizer) -> None:
        self._session = session
        self.tokenizer = tokenizer
        self._document_worker = ThreadPoolExecutor(1, thread_name_prefix="embed-documents")
        self._query_workers = ThreadPoolExecutor(_QUERY_WORKERS, thread_name_prefix="embed-query")

    @classmethod
    def load(cls, cache_dir: Path, *, threads: int | None = None) -> "MiniLMEmbedder":
        """Blocks for about 0.2 s, at the first start with this `cache_dir` for about a second.

        Args:
            cache_dir: Where the graph made from the weights is kept; made if absent.
            threads: Cores that one run may use; by default those of the machine, at most four.

        Raises:
            ModelFilesMissing, ModelFilesChanged, OSError: See `graph_cache.cached_graph`.
        """
        tokenizer = WordPieceTokenizer(published_model_directory() / "tokenizer.json")
        return cls(open_session(cached_graph(cache_dir), threads=threads), tokenizer)

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        workers = self._query_workers if urgent else self._document_worker
        sums = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        windows = await loop.run_in_executor(workers, self._windows, texts)
        for batch in batches_by_length(windows, max_tokens=BATCH_TOKENS):
            vectors = await loop.run_in_executor(workers, embed_batch, self._session, batch)
            np.add.at(sums, [window.text_index for window in batch], vectors)
        return _normalised(sums)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._query_workers, self._embed_query, text)

    def _embed_query(self, text: str) -> NDArray[np.float32]:
        total = np.zeros(self.dimensions, dtype=np.float32)
        for batch in batches_by_length(self._windows([text]), max_tokens=BATCH_TOKENS):
            total += embed_batch(self._session, batch).sum(axis=0)
        return _normalised(total)

    def _windows(self, texts: Sequence[str]) -> list[Window]:
        windows: list[Window] = []
        for index, text in enumerate(texts):
            token_ids = self.tokenizer.token_ids(text)
            if len(token_ids) <= MODEL_TOKENS:
                windows.append(Window(index, token_ids))
            else:
                parts = split_windows(text, self.tokenizer, self.max_tokens)
                windows.extend(Window(index, self.tokenizer.token_ids(part)) for part in parts)
        return windows


def open_session(graph: Path, *, threads: int | None = None) -> InferenceSession:
    options = SessionOptions()
    # Left to itself onnxruntime takes every core it sees and pins its threads, which containers refuse.
    options.intra_op_num_threads = threads or min(os.cpu_count() or 1, _MAX_DEFAULT_THREADS)
    # It would keep a plan, and one block of memory to fit it, for every shape of a batch that it ever met.
    options.enable_mem_pattern = False
    return InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def batches_by_length(windows: Sequence[Window], *, max_tokens: int) -> Iterator[list[Window]]:
    """Batches of similar length, the longest first, of at most `max_tokens` counted with padding."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: len(window.token_ids), reverse=True):
        if batch and (len(batch) + 1) * len(batch[0].token_ids) > max_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def embed_batch(session: InferenceSession, batch: Sequence[Window]) -> NDArray[np.float32]:
    """Unit vectors of shape (len(batch), dimensions), padded to the batch's longest window."""
    vectors: NDArray[np.float32] = session.run(None, model_input(batch))[0]
    return vectors


def model_input(batch: Sequence[Window]) -> dict[str, NDArray[np.int32]]:
    shape = (len(batch), max(len(window.token_ids) for window in batch))
    token_ids, mask = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    for row, window in enumerate(batch):
        token_ids[row, : len(window.token_ids)] = window.token_ids
        mask[row, : len(window.token_ids)] = 1
    return {"input_ids": token_ids, "attention_mask": mask}


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
