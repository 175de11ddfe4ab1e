"""Schools with a member of each role, who call the personas' routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from httpx2 import AsyncClient, Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bwenge.auth import wiring as auth
from bwenge.auth.models import User
from bwenge.auth.service import caller_of
from bwenge.auth.tokens import AccessTokenIssuer, generate_signing_key
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal, Role, member
from bwenge.kit.ids import new_id
from bwenge.persona import wiring as persona
from bwenge.persona.service import PersonaService
from tests.support.feature_app import bearer, client_of, feature_app

PERSONA: Final[dict[str, Any]] = {
    "name": "Mwalimu Keza",
    "description": "Biology, senior two",
    "tone": {"manner": "patient", "humour": ["light", "dry"], "formality": 0.4, "praises": True},
    "rules": {"guidelines": ["Use examples from Rwanda."]},
    "sample_prompts": ["What is photosynthesis?"],
    "safety_rules": ["No medical advice."],
    "settings": {"temperature": 0.3, "language": "rw", "greeting": "Muraho!"},
    "is_active": True,
}
"""A valid body of POST /personas with every field."""

_SIGNING_KEY: Final = generate_signing_key()
_QUICK_HASH: Final = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))


@dataclass(frozen=True, slots=True)
class Member:
    principal: Principal
    headers: dict[str, str]
    client: AsyncClient

    async def call(self, method: str, path: str, body: Any = None) -> Response:
        return await self.client.request(method, path, json=body, headers=self.headers)

    async def get(self, path: str) -> Response:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any) -> Response:
        return await self.call("POST", path, body)

    async def put(self, path: str, body: Any) -> Response:
        return await self.call("PUT", path, body)

    async def delete(self, path: str) -> Response:
        return await self.call("DELETE", path)

    async def make_persona(self, **changes: Any) -> dict[str, Any]:
        answer = await self.post("/personas", {**PERSONA, **changes})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


@dataclass(frozen=True, slots=True)
class School:
    org_id: UUID
    owner: Member
    admin: Member
    expert: Member
    colleague: Member
    learner: Member


@dataclass(frozen=True, slots=True)
class PersonaAPI:
    """The personas' routes on one database, and schools to call them."""

    database: Database
    personas: PersonaService
    client: AsyncClient
    accounts: auth.AuthFeature

    async def new_school(self) -> School:
        tag = new_id().hex
        owner = self._member(
            await self.accounts.service.register_organization(
                org_name="Groupe Scolaire Remera", name="Owner", email=f"owner@{tag}.example", password="ikaze123"
            )
        )
        org_id = owner.principal.org_id
        members = {
            name: await self.accounts.service.create_member(
                org_id, name=name, role=role, username=f"{name}.{tag}", password="ikaze123"
            )
            for name, role in (
                ("admin", Role.ADMIN),
                ("expert", Role.EXPERT),
                ("colleague", Role.EXPERT),
                ("learner", Role.USER),
            )
        }
        signed_in = {name: self._member(user) for name, user in members.items()}
        return School(org_id=org_id, owner=owner, **signed_in)

    def _member(self, user: User) -> Member:
        principal = member(caller_of(user))
        token = AccessTokenIssuer(self.accounts.keys).issue(principal, family_id=new_id())
        return Member(principal, bearer(token), self.client)


@asynccontextmanager
async def persona_api(database: Database) -> AsyncIterator[PersonaAPI]:
    accounts = auth.build(database, signing_key_pem=_SIGNING_KEY, password_hash=_QUICK_HASH)
    feature = persona.build(database, members=accounts.service, classes=accounts.classes)
    app = feature_app(
        feature.router,
        database=database,
        token_verifier=accounts.token_verifier,
        services=[feature.service],
        membership=accounts.service,
    )
    async with client_of(app) as client:
        yield PersonaAPI(database, feature.service, client, accounts)
