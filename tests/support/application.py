"""The whole web application in the test's own process, on a database that is rolled back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bwenge.apps.composition import Platform, compose
from bwenge.apps.resources import Resources
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.web import create_app
from bwenge.kit.blobs.store import BlobStore
from bwenge.kit.db import Database
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.providers.embedding.fake import FakeEmbedder
from bwenge.providers.llm.base import LanguageModel

PASSWORD = "umusozi-muremure"  # a throw-away account's


@dataclass(frozen=True)
class Person:
    """A signed-in member, and the headers that say so."""

    user_id: UUID
    org_id: UUID
    role: Role
    headers: dict[str, str]


@dataclass(frozen=True)
class Application:
    """The application, a client of it, and its parts."""

    app: FastAPI
    platform: Platform
    client: httpx2.AsyncClient

    async def register(self, *, name: str = "Claudine") -> Person:
        """The owner of a new organisation."""
        mark = new_id().hex[-12:]
        answer = await self.client.post(
            "/auth/register",
            json={"name": name, "email": f"{mark}@school.example", "password": PASSWORD, "org_name": f"School {mark}"},
        )
        assert answer.status_code == 201, answer.text
        return _person(answer.json())

    async def add_member(self, org_id: UUID, role: Role) -> Person:
        mark = new_id().hex[-12:]
        await self.platform.auth.service.create_member(
            org_id, name="Member", role=role, username=f"member.{mark}", password=PASSWORD
        )
        answer = await self.client.post("/auth/login", json={"identifier": f"member.{mark}", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return _person(answer.json())

    async def create_persona(self, person: Person, **fields: Any) -> UUID:
        answer = await self.client.post("/personas", headers=person.headers, json={"name": "Gabriel", **fields})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["persona_id"])

    async def upload(self, person: Person, persona_id: UUID, content: bytes, *, name: str = "a.txt") -> httpx2.Response:
        return await self.client.post(
            "/knowledge/upload",
            headers=person.headers,
            data={"persona_id": str(persona_id)},
            files={"file": (name, content)},
        )

    async def ingest(self, person: Person, source_id: UUID) -> None:
        """Do the work of the job that the upload asked for, here and now."""
        await self.platform.knowledge.ingestion.run(source_id, org_id=person.org_id, attempt=1)

    async def add_document(self, person: Person, persona_id: UUID, content: bytes, *, name: str = "a.txt") -> UUID:
        answer = await self.upload(person, persona_id, content, name=name)
        assert answer.status_code == 202, answer.text
        source_id = UUID(answer.json()["source_id"])
        await self.ingest(person, source_id)
        return source_id


def _person(login: dict[str, Any]) -> Person:
    user = login["user"]
    return Person(
        user_id=UUID(user["user_id"]),
        org_id=UUID(user["org_id"]),
        role=Role(user["role"]),
        headers={"Authorization": f"Bearer {login['access_token']}"},
    )


@asynccontextmanager
async def open_application(
    database: Database, folder: Path, *, model: LanguageModel | None = None
) -> AsyncIterator[Application]:
    """The application without its background work: jobs wait until the test does them."""
    settings = Settings(_env_file=None, data_dir=folder, demo=False)
    resources = Resources(
        database=database,
        blobs=BlobStore.on_disk(folder / "blobs"),
        embedder=FakeEmbedder(),
        model=model,
        password_hash=PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)),
    )
    platform = compose(settings, Secrets.load(settings), resources)
    platform.spool.mkdir(parents=True, exist_ok=True)
    app = create_app(settings, platform)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bwenge.test") as client:
        yield Application(app, platform, client)
