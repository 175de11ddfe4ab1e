"""BERT in plain numpy and double precision, straight from the paper and the safetensors file's names.

It shares no code with the product: the tests hold the ONNX graph against it.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

LAYERS = 6
HEADS = 12

Matrix = NDArray[np.float64]


class ReferenceBert:
    def __init__(self, safetensors: Path) -> None:
        self._weights = {name: tensor.astype(np.float64) for name, tensor in load_file(safetensors).items()}

    def embed(self, token_ids: list[int]) -> NDArray[np.float64]:
        """The unit vector of one text, unbatched and therefore without padding or mask."""
        words = self._weights["embeddings.word_embeddings.weight"][token_ids]
        positions = self._weights["embeddings.position_embeddings.weight"][: len(token_ids)]
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._layer_norm(words + positions + segment, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        mean = hidden.mean(axis=0)
        unit: Matrix = mean / np.linalg.norm(mean)
        return unit

    def _layer(self, hidden: Matrix, name: str) -> Matrix:
        query, key, value = (
            self._linear(hidden, f"{name}.attention.self.{part}").reshape(len(hidden), HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        context = (weights @ value).transpose(1, 0, 2).reshape(hidden.shape)
        attended = self._layer_norm(
            self._linear(context, f"{name}.attention.output.dense") + hidden, f"{name}.attention.output.LayerNorm"
        )
        inner = gelu(self._linear(attended, f"{name}.intermediate.dense"))
        return self._layer_norm(self._linear(inner, f"{name}.output.dense") + attended, f"{name}.output.LayerNorm")

    def _linear(self, rows: Matrix, name: str) -> Matrix:
        return rows @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _layer_norm(self, rows: Matrix, name: str) -> Matrix:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        scaled: Matrix = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        moved: Matrix = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return moved


def gelu(values: Matrix) -> Matrix:
    """The exact form, by the error function, as the model's config.json says ("gelu")."""
    erf = np.array([math.erf(value) for value in (values / math.sqrt(2)).ravel()]).reshape(values.shape)
    activated: Matrix = values * 0.5 * (1 + erf)
    return activated
