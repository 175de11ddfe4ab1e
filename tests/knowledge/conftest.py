from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bwenge.knowledge.ingestion import SourceIngestion
from bwenge.knowledge.parsing.sandbox import ExtractionLimits
from tests.knowledge.ingestion_bench import Bench, WatchedEmbedder
from tests.support.application import Application
from tests.support.databases import SavepointDatabase


@pytest.fixture
async def bench(application: Application, database: SavepointDatabase, tmp_path: Path) -> AsyncIterator[Bench]:
    owner = await application.register()
    embedder = WatchedEmbedder()
    made = SourceIngestion(
        database,
        application.platform.resources.blobs,
        embedder,
        work_dir=tmp_path / "own work",
        limits=ExtractionLimits(),
    )
    yield Bench(application, owner, await application.create_persona(owner), database, embedder, made)
    assert list((tmp_path / "own work").glob("*")) == [], "an ingestion left files behind"
