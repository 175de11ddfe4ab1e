"""Memory that indexing a long text takes: `python -m bench.ingestion [--megabytes 20]`.

The text is read, cut and indexed as in service, by a process that does nothing else; a fake embedder takes the model's
place, whose memory does not depend on the text. The parsing process is not counted: it has a limit of its own.
"""

import argparse
import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

import numpy as np
import psutil
from sqlalchemy import text
from sqlalchemy.engine import URL

from bench.synthetic import migrated_server, role_urls
from bwenge.kit.blobs.store import BlobKey, BlobStore
from bwenge.kit.db import Database
from bwenge.kit.ids import new_id
from bwenge.kit.telemetry import configure_logging
from bwenge.knowledge import repository
from bwenge.knowledge.ingestion import SourceIngestion
from bwenge.knowledge.language import detect_language
from bwenge.knowledge.models import KnowledgeSource
from bwenge.knowledge.parsing.sandbox import ExtractionLimits
from bwenge.knowledge.service import ReceivedFile
from bwenge.providers.embedding.fake import FakeEmbedder

MIB: Final = 1024 * 1024
_VOCABULARY: Final = 200_000
_ZIPF_OFFSET: Final = 3
_SENTENCE_WORDS: Final = 15
_PARAGRAPH_SENTENCES: Final = 6


def run(*, megabytes: float = 20) -> dict[str, float]:
    """MiB of resident memory before and at the most, and how many seconds it took."""
    with TemporaryDirectory(prefix="bwenge-bench-") as folder, migrated_server() as admin_url:
        book = write_varied_text(Path(folder) / "book.txt", megabytes=megabytes)
        return asyncio.run(_measure(admin_url, Path(folder), book))


def write_varied_text(path: Path, *, megabytes: float, seed: int = 7) -> ReceivedFile:
    """Sentences of made-up words, of which few are common and most are rare, as in a language."""
    choice = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnoprstuvwy"))
    words = ["".join(choice.choice(letters, size)) for size in choice.integers(2, 11, size=_VOCABULARY)]
    weights = np.cumsum(1 / (np.arange(_VOCABULARY) + _ZIPF_OFFSET))
    left = int(megabytes * MIB)
    with path.open("w", encoding="ascii") as file:
        while left > 0:
            numbers = np.searchsorted(weights, choice.random((_PARAGRAPH_SENTENCES, _SENTENCE_WORDS)) * weights[-1])
            paragraph = " ".join(f"{' '.join(words[n] for n in sentence).capitalize()}." for sentence in numbers)
            left -= file.write(f"{paragraph}\n\n")
    return ReceivedFile(path, path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


async def _measure(admin_url: URL, folder: Path, book: ReceivedFile) -> dict[str, float]:
    database, blobs = Database(role_urls(admin_url)), BlobStore.on_disk(folder / "blobs")
    ingestion = SourceIngestion(
        database,
        blobs,
        FakeEmbedder(),
        work_dir=folder / "work",
        # The parsing process reads a text whole; what it may use is not measured here.
        limits=ExtractionLimits(memory_bytes=8 * 1024 * MIB),
    )
    try:
        source = await _add_source(database, blobs, book)
        detect_language("Loads its model, which stays.")
        began = time.perf_counter()
        with _watched() as seen:
            await ingestion.ingest(source.id, org_id=source.org_id, attempt=1)
            await ingestion.embed(source.id, org_id=source.org_id, attempt=1)
        async with database.unit_of_work(source.org_id) as session:
            ended = await repository.find_source(session, source.id, org_id=source.org_id)
        assert ended is not None
        assert ended.status == "ready", ended.error_message
        return {
            "text_mib": book.size / MIB,
            "chunks": ended.chunk_count,
            "seconds": time.perf_counter() - began,
            "resident_before_mib": seen[0] / MIB,
            "resident_most_mib": max(seen) / MIB,
            "added_mib": (max(seen) - seen[0]) / MIB,
        }
    finally:
        await database.dispose()


async def _add_source(database: Database, blobs: BlobStore, book: ReceivedFile) -> KnowledgeSource:
    org_id, persona_id = new_id(), new_id()
    await blobs.put(BlobKey(org_id, book.sha256), book.path)
    await _add_persona(database, org_id, persona_id)
    source = KnowledgeSource(
        id=new_id(),
        org_id=org_id,
        persona_id=persona_id,
        title="Book",
        file_name=book.file_name,
        type="text",
        file_size=book.size,
        sha256=book.sha256,
    )
    async with database.unit_of_work(org_id) as session:
        await repository.add_source(session, source)
    return source


async def _add_persona(database: Database, org_id: UUID, persona_id: UUID) -> None:
    async with database.unit_of_work(org_id) as session:
        await session.execute(text("INSERT INTO organizations (id, name) VALUES (:id, 'Bench')"), {"id": org_id})
        await session.execute(
            text(
                "INSERT INTO personas (id, org_id, name, tone, rules, sample_prompts, safety_rules, settings) "
                "VALUES (:id, :org_id, 'Gabriel', '{}', '{}', '[]', '[]', '{}')"
            ),
            {"id": persona_id, "org_id": org_id},
        )


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Bytes of resident memory of this process, twenty times a second, from the start of the block on."""
    process, ended = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not ended.wait(0.05):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20)
    options = parser.parse_args()
    configure_logging(level="WARNING")
    print(json.dumps(run(megabytes=options.megabytes), indent=2))


if __name__ == "__main__":
    main()
