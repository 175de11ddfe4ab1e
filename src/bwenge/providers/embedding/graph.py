"""The sentence-transformers model all-MiniLM-L6-v2 as an ONNX graph, written from its published weights.

BERT (Devlin et al., 2019) with 6 layers of 12 heads, then the mean over a text's tokens and L2 normalisation. The
operators are the fused ones that onnxruntime has for BERT (domain com.microsoft), so no optimiser has to find them at
each start. The weights lie in a file of their own that onnxruntime maps into memory: of the 47 MB of word embeddings
only the pages that texts touch become resident.

`graph_cache.BUILD` names what this module writes: a change here needs another number there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from safetensors import safe_open

LAYERS = 6
HEADS = 12
DIMENSIONS = 384
MAX_POSITIONS = 256
LAYER_NORM_EPSILON = 1e-12

_ONNX_OPSET = 17
_ONNX_IR_VERSION = 8
# A mapping starts at a page. The greatest page size in use is 64 KiB (arm64 servers).
_WEIGHTS_ALIGNMENT = 65536
# Vectors (biases, layer norms) stay in the graph file: they are too small to be worth a mapping of their own.
_INLINE_BYTES = 8192


class BertWeights:
    """The tensors of an open safetensors file, read one at a time: all of them at once would double the peak."""

    def __init__(self, file: safe_open) -> None:
        self._file = file

    def tensor(self, name: str) -> NDArray[np.float32]:
        tensor: NDArray[np.float32] = self._file.get_tensor(name)  # type: ignore[no-untyped-call]  # its stub has no types
        return tensor

    def linear(self, name: str) -> NDArray[np.float32]:
        """A dense layer's matrix as (inputs, outputs), which MatMul expects; the file has it transposed."""
        return self.tensor(f"{name}.weight").T


class GraphWriter:
    """Collects nodes and initialisers; large initialisers go to the weights file at once."""

    def __init__(self, weights_file: BinaryIO, *, location: str) -> None:
        self._weights_file = weights_file
        self._location = location
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []

    def weight(self, name: str, array: NDArray[np.float32]) -> str:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        contents = np.ascontiguousarray(array, dtype="<f4").tobytes()
        if len(contents) < _INLINE_BYTES:
            tensor.raw_data = contents
        else:
            self._weights_file.write(bytes(-self._weights_file.tell() % _WEIGHTS_ALIGNMENT))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", self._location),
                ("offset", str(self._weights_file.tell())),
                ("length", str(len(contents))),
            ):
                tensor.external_data.add(key=key, value=value)
            self._weights_file.write(contents)
        self._initializers.append(tensor)
        return name

    def axes(self, name: str, values: Sequence[int]) -> str:
        self._initializers.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def onnx(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node of the ONNX standard and gives its output's name."""
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def fused(self, operator: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Adds a node of onnxruntime's own (docs/ContribOperators.md there) and gives its first output's name."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, domain="com.microsoft", **attributes))
        return outputs[0]

    def model(self) -> ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])],
            self._initializers,
        )
        opsets = [helper.make_opsetid("", _ONNX_OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_ONNX_IR_VERSION)


def write_graph(safetensors: Path, *, graph_file: Path, weights_file: Path) -> None:
    """Writes the graph and, beside it, its weights; the same bytes for the same weights.

    Inputs of the graph are `input_ids` and `attention_mask`, int32 of shape (batch, tokens), tokens at most
    MAX_POSITIONS, padding on the right with mask 0. Its output `embedding` is float32 (batch, DIMENSIONS), unit
    vectors.
    """
    with safe_open(safetensors, framework="numpy") as tensors, weights_file.open("wb") as destination:
        weights = BertWeights(tensors)
        writer = GraphWriter(destination, location=weights_file.name)
        hidden = _embeddings(writer, weights)
        for layer in range(LAYERS):
            attended = _attention(writer, weights, hidden, layer=layer)
            hidden = _feed_forward(writer, weights, attended, layer=layer)
        _pooling(writer, hidden)
    graph_file.write_bytes(writer.model().SerializeToString(deterministic=True))


def _embeddings(writer: GraphWriter, weights: BertWeights) -> str:
    # Texts are single segments, so the embedding of segment 0 is part of every position's.
    positions = weights.tensor("embeddings.position_embeddings.weight")[:MAX_POSITIONS]
    segment = weights.tensor("embeddings.token_type_embeddings.weight")[0]
    inputs = [
        "input_ids",
        "",
        writer.weight("words", weights.tensor("embeddings.word_embeddings.weight")),
        writer.weight("positions", positions + segment),
        "",
        writer.weight("embeddings.norm.gamma", weights.tensor("embeddings.LayerNorm.weight")),
        writer.weight("embeddings.norm.beta", weights.tensor("embeddings.LayerNorm.bias")),
        "attention_mask",
    ]
    return writer.fused("EmbedLayerNormalization", inputs, "embeddings", "lengths", epsilon=LAYER_NORM_EPSILON)


def _attention(writer: GraphWriter, weights: BertWeights, hidden: str, *, layer: int) -> str:
    source, target = f"encoder.layer.{layer}.attention", f"layer{layer}.attention"
    projections = [f"{source}.self.{name}" for name in ("query", "key", "value")]
    inputs = [
        hidden,
        writer.weight(f"{target}.qkv", np.concatenate([weights.linear(name) for name in projections], axis=1)),
        writer.weight(f"{target}.qkv.bias", np.concatenate([weights.tensor(f"{name}.bias") for name in projections])),
        "lengths",
    ]
    context = writer.fused("Attention", inputs, f"{target}.context", num_heads=HEADS)
    return _dense_add_norm(writer, weights, context, hidden, source=f"{source}.output", target=f"{target}.output")


def _feed_forward(writer: GraphWriter, weights: BertWeights, hidden: str, *, layer: int) -> str:
    source, target = f"encoder.layer.{layer}", f"layer{layer}"
    matrix = writer.weight(f"{target}.intermediate", weights.linear(f"{source}.intermediate.dense"))
    bias = writer.weight(f"{target}.intermediate.bias", weights.tensor(f"{source}.intermediate.dense.bias"))
    projected = writer.onnx("MatMul", [hidden, matrix], f"{target}.intermediate.projected")
    activated = writer.fused("BiasGelu", [projected, bias], f"{target}.intermediate.activated")
    return _dense_add_norm(writer, weights, activated, hidden, source=f"{source}.output", target=f"{target}.output")


def _dense_add_norm(
    writer: GraphWriter, weights: BertWeights, inner: str, residual: str, *, source: str, target: str
) -> str:
    """LayerNorm(inner · W + b + residual), how each half of a BERT layer ends."""
    matrix = writer.weight(target, weights.linear(f"{source}.dense"))
    projected = writer.onnx("MatMul", [inner, matrix], f"{target}.projected")
    inputs = [
        projected,
        residual,
        writer.weight(f"{target}.norm.gamma", weights.tensor(f"{source}.LayerNorm.weight")),
        writer.weight(f"{target}.norm.beta", weights.tensor(f"{source}.LayerNorm.bias")),
        writer.weight(f"{target}.bias", weights.tensor(f"{source}.dense.bias")),
    ]
    return writer.fused("SkipLayerNormalization", inputs, f"{target}.normalised", epsilon=LAYER_NORM_EPSILON)


def _pooling(writer: GraphWriter, hidden: str) -> None:
    """The masked sum over tokens, normalised: the mean differs from the sum by a factor that normalising removes."""
    middle = writer.axes("pooling.axis", [1])
    mask = writer.onnx("Cast", ["attention_mask"], "pooling.mask", to=TensorProto.FLOAT)
    row = writer.onnx("Unsqueeze", [mask, middle], "pooling.row")
    summed = writer.onnx("MatMul", [row, hidden], "pooling.summed")
    flat = writer.onnx("Squeeze", [summed, middle], "pooling.flat")
    writer.onnx("LpNormalization", [flat], "embedding", axis=-1, p=2)
