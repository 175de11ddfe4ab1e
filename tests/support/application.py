"""The whole web application in the test's own process, on a database that is rolled back."""

from collections.abc import AsyncIterator, Sequence
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

    async def make_key(self, maker: Person, role: Role | None = None, **fields: Any) -> Person:
        """An API key of the maker's, by default with all that its maker may, as one more caller."""
        role = role or maker.role
        answer = await self.client.post(
            f"/orgs/{maker.org_id}/api-keys", headers=maker.headers, json={"name": "Key", "role": role, **fields}
        )
        assert answer.status_code == 201, answer.text
        return Person(maker.user_id, maker.org_id, role, _bearer(answer.json()["key"]))

    async def add_operator(self) -> dict[str, str]:
        """The headers of a signed-in operator."""
        email = f"{new_id().hex[-12:]}@bwenge.example"
        await self.platform.auth.operators.create(email, name="Operator", password=PASSWORD)
        answer = await self.client.post("/auth/login", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return _bearer(answer.json()["access_token"])

    async def create_persona(self, person: Person, **fields: Any) -> UUID:
        answer = await self.client.post("/personas", headers=person.headers, json={"name": "Gabriel", **fields})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["persona_id"])

    async def create_group(
        self, person: Person, *, learners: Sequence[Person] = (), personas: Sequence[UUID] = (), **fields: Any
    ) -> UUID:
        path = f"/orgs/{person.org_id}/groups"
        answer = await self.client.post(path, headers=person.headers, json={"name": "S2 A", **fields})
        assert answer.status_code == 201, answer.text
        group_id = UUID(answer.json()["group_id"])
        for learner in learners:
            await self.join(person, group_id, "members", user_id=learner.user_id)
        for persona_id in personas:
            await self.join(person, group_id, "personas", persona_id=persona_id)
        return group_id

    async def join(self, person: Person, group_id: UUID, what: str, **fields: UUID) -> None:
        """Put a learner or a persona into a group."""
        body = {name: str(value) for name, value in fields.items()}
        path = f"/orgs/{person.org_id}/groups/{group_id}/{what}"
        answer = await self.client.post(path, headers=person.headers, json=body)
        assert answer.status_code == 201, answer.text

    async def upload(self, person: Person, persona_id: UUID, content: bytes, *, name: str = "a.txt") -> httpx2.Response:
        return await self.client.post(
            "/knowledge/upload",
            headers=person.headers,
            data={"persona_id": str(persona_id)},
            files={"file": (name, content)},
        )

    async def ingest(self, person: Person, source_id: UUID) -> None:
        """Do the work of the jobs that the upload asked for, here and now."""
        ingestion = self.platform.knowledge.ingestion
        for work in (ingestion.ingest, ingestion.embed):
            await work(source_id, org_id=person.org_id, attempt=1)

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
        headers=_bearer(login["access_token"]),
    )


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def open_application(
    database: Database, folder: Path, *, model: LanguageModel | None = None, **settings: Any
) -> AsyncIterator[Application]:
    """The application without rate limits and without its background work: jobs wait until the test does them."""
    chosen = Settings(_env_file=None, data_dir=folder, demo=False, **({"rate_limits": False} | settings))
    resources = Resources(
        database=database,
        blobs=BlobStore.on_disk(folder / "blobs"),
        embedder=FakeEmbedder(),
        model=model,
        password_hash=PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)),
    )
    platform = compose(chosen, Secrets.load(chosen), resources)
    platform.spool.mkdir(parents=True, exist_ok=True)
    app = create_app(chosen, platform)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bwenge.test") as client:
        yield Application(app, platform, client)
