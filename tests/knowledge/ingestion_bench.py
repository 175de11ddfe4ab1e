"""A school whose sources are ingested by hand, by an embedder that fails or waits where it is told to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import text

from bwenge.knowledge.ingestion import SourceIngestion
from bwenge.providers.embedding.fake import FakeEmbedder
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase

TEXT = b"The fare from Kigali to Huye is 3,200 francs."


def pdf(*pages: str, password: str | None = None) -> bytes:
    buffer = BytesIO()
    canvas = Canvas(buffer, encrypt=None if password is None else StandardEncryption(password))
    for page in pages:
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


class WatchedEmbedder(FakeEmbedder):
    """Counts the texts; fails or waits where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = 0
        self.error: Exception | None = None
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def embed_documents(self, texts: Sequence[str], *, urgent: bool = False) -> NDArray[np.float32]:
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        self.texts += len(texts)
        return await super().embed_documents(texts, urgent=urgent)


@dataclass
class Bench:
    """A school whose sources are ingested by an ingestion of the test's own."""

    application: Application
    owner: Person
    persona_id: UUID
    database: SavepointDatabase
    embedder: WatchedEmbedder
    ingestion: SourceIngestion

    async def upload(self, content: bytes, *, name: str = "a.txt") -> UUID:
        answer = await self.application.upload(self.owner, self.persona_id, content, name=name)
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["source_id"])

    async def run(self, source_id: UUID, *, attempt: int = 1) -> None:
        """Both jobs, one after the other, each in that attempt."""
        await self.ingestion.ingest(source_id, org_id=self.owner.org_id, attempt=attempt)
        await self.ingestion.embed(source_id, org_id=self.owner.org_id, attempt=attempt)

    async def status(self, source_id: UUID) -> dict[str, Any]:
        answer = await self.application.client.get(f"/knowledge/{source_id}/status", headers=self.owner.headers)
        body: dict[str, Any] = answer.json()
        return body

    async def count(self, table: str) -> int:
        async with self.database.superuser() as connection:
            count: int = await connection.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608  # named below
            return count

    async def search(self, query: str) -> list[dict[str, Any]]:
        body = {"persona_id": str(self.persona_id), "query": query}
        answer = await self.application.client.post("/knowledge/search", headers=self.owner.headers, json=body)
        items: list[dict[str, Any]] = answer.json()["items"]
        return items
