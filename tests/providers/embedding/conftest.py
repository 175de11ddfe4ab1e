from pathlib import Path

import pytest

from bwenge.providers.embedding.base import Embedder
from bwenge.providers.embedding.fake import FakeEmbedder
from bwenge.providers.embedding.minilm import MiniLMEmbedder


@pytest.fixture(scope="session")
def graph_cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def minilm(graph_cache_dir: Path) -> MiniLMEmbedder:
    return MiniLMEmbedder.load(graph_cache_dir)


@pytest.fixture(params=["fake", "minilm"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    """Every embedder that the product ships."""
    if request.param == "fake":
        return FakeEmbedder()
    loaded: MiniLMEmbedder = request.getfixturevalue("minilm")
    return loaded
