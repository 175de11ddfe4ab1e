import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import helper

from bwenge.providers.embedding import graph_cache
from bwenge.providers.embedding.graph_cache import (
    BUILD,
    ModelFilesChanged,
    ModelFilesMissing,
    cached_graph,
    published_model_directory,
)
from bwenge.providers.embedding.minilm import MiniLMEmbedder, open_session

# What build 1 consists of. A failing comparison means: raise BUILD, then record the new build here.
RECORDED_BUILD = 1
RECORDED_WEIGHTS = "ca31bb495d2a1271d60e5e86ac4260180287359f6ed3c8ddd03d037ec2cdc0e3"
RECORDED_GRAPH = "f9be3cc9996e315245b4a97290ea9f805db6817dae3ab500a23aea3551889c38"


@pytest.fixture
def cache(tmp_path: Path, graph_cache_dir: Path, minilm: MiniLMEmbedder) -> Iterator[Path]:
    """A cache of the test's own, already filled."""
    assert minilm.name == "all-MiniLM-L6-v2"
    copy = tmp_path / "cache"
    shutil.copytree(graph_cache_dir, copy)
    yield copy
    shutil.rmtree(copy)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def modification_times(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_a_first_start_writes_graph_weights_and_manifest_and_no_more(cache: Path) -> None:
    graph = cached_graph(cache / "fresh")

    assert sorted(path.name for path in graph.parent.iterdir()) == ["manifest.json", "model.onnx", "model.weights"]
    assert list((cache / "fresh").iterdir()) == [graph.parent]


def test_a_second_start_writes_nothing(cache: Path) -> None:
    before = modification_times(cached_graph(cache).parent)

    assert modification_times(cached_graph(cache).parent) == before


@pytest.mark.parametrize("name", ["model.onnx", "model.weights", "manifest.json"])
def test_a_file_with_one_changed_byte_is_rebuilt(cache: Path, name: str) -> None:
    damaged = cached_graph(cache).parent / name
    sound = sha256(damaged)
    with damaged.open("r+b") as file:
        file.seek(damaged.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0xFF]))

    cached_graph(cache)

    assert sha256(damaged) == sound


@pytest.mark.parametrize("name", ["model.onnx", "model.weights", "manifest.json"])
def test_a_missing_file_is_rebuilt(cache: Path, name: str) -> None:
    missing = cached_graph(cache).parent / name
    sound = sha256(missing)
    missing.unlink()

    cached_graph(cache)

    assert sha256(missing) == sound


def test_a_file_cut_short_is_rebuilt_and_runs(cache: Path) -> None:
    weights = cached_graph(cache).parent / "model.weights"
    with weights.open("r+b") as file:
        file.truncate(1000)

    session = open_session(cached_graph(cache))

    assert [output.name for output in session.get_outputs()] == ["embedding"]


def test_another_build_is_made_beside_the_old_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = cached_graph(cache)
    monkeypatch.setattr(graph_cache, "BUILD", BUILD + 1)

    new = cached_graph(cache)

    assert new != old
    assert old.exists()
    assert new.exists()


def test_processes_that_start_at_once_all_get_a_sound_graph(tmp_path: Path) -> None:
    program = f"""
import pathlib
from bwenge.providers.embedding.graph_cache import cached_graph
from bwenge.providers.embedding.minilm import open_session
open_session(cached_graph(pathlib.Path({str(tmp_path)!r})))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)  # noqa: S603  # our own program
        for _ in range(3)
    ]

    assert [process.wait() for process in processes] == [0, 0, 0]
    (directory,) = tmp_path.iterdir()
    before = modification_times(directory)
    cached_graph(tmp_path)
    assert modification_times(directory) == before


def test_weights_other_than_the_published_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "wheel"
    changed.mkdir()
    (changed / "model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr(graph_cache, "published_model_directory", lambda: changed)

    with pytest.raises(ModelFilesChanged, match="not the published file"):
        cached_graph(tmp_path / "cache")

    assert not (tmp_path / "cache").exists()


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "_WHEEL", "a_wheel_that_nobody_installed")

    with pytest.raises(ModelFilesMissing, match="a_wheel_that_nobody_installed"):
        published_model_directory()


def test_the_wheel_carries_the_published_weights() -> None:
    assert sha256(published_model_directory() / "model.safetensors").startswith("53aa51172d14")


def test_a_cache_that_cannot_be_written_is_an_error_only_when_it_has_to_be(cache: Path) -> None:
    (cache / "file").touch()

    with pytest.raises(OSError, match="file"):
        cached_graph(cache / "file")


def test_what_a_build_consists_of_changes_only_with_its_number(cache: Path) -> None:
    directory = cached_graph(cache).parent
    graph = onnx.load(directory / "model.onnx", load_external_data=False).graph
    nodes = [
        (
            node.op_type,
            *node.input,
            *node.output,
            *((part.name, helper.get_attribute_value(part)) for part in node.attribute),
        )
        for node in graph.node
    ]
    tensors = [(tensor.name, *tensor.dims, tensor.raw_data) for tensor in graph.initializer]
    graph_digest = hashlib.sha256(repr((nodes, tensors)).encode()).hexdigest()

    assert (BUILD, sha256(directory / "model.weights"), graph_digest) == (
        RECORDED_BUILD,
        RECORDED_WEIGHTS,
        RECORDED_GRAPH,
    )
