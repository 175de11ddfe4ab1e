"""Features wired to resources and to each other."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter

from bwenge.analytics.service import EventLog
from bwenge.apps.resources import Resources
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.auth import wiring as auth_wiring
from bwenge.auth.wiring import AuthFeature
from bwenge.chat import wiring as chat_wiring
from bwenge.chat.wiring import ChatFeature
from bwenge.kit.http.system import ReadinessCheck
from bwenge.kit.identity import TokenVerifier
from bwenge.kit.jobs.runner import JobRunner
from bwenge.knowledge import wiring as knowledge_wiring
from bwenge.knowledge.wiring import KnowledgeFeature
from bwenge.persona import answer_routes
from bwenge.persona import wiring as persona_wiring
from bwenge.persona.answers import AnswerService
from bwenge.persona.replies import PersonaReplies
from bwenge.persona.wiring import PersonaFeature


@dataclass(frozen=True)
class Platform:
    """All features of one process, ready to be served."""

    resources: Resources
    auth: AuthFeature
    personas: PersonaFeature
    answers: AnswerService
    knowledge: KnowledgeFeature
    chat: ChatFeature
    jobs: JobRunner
    spool: Path
    """Where uploads arrive."""
    work_dir: Path
    """Where documents are taken apart."""

    @property
    def token_verifier(self) -> TokenVerifier:
        return self.auth.token_verifier

    @property
    def routers(self) -> tuple[APIRouter, ...]:
        return (
            self.auth.router,
            self.personas.router,
            answer_routes.router,
            *self.knowledge.routers,
            self.chat.router,
        )

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for."""
        return (
            self.auth.service,
            self.auth.keys,
            self.personas.service,
            self.answers,
            *self.knowledge.provided,
            self.resources.blobs,
            self.chat.service,
        )

    @property
    def readiness_checks(self) -> Mapping[str, ReadinessCheck]:
        return {"postgresql": self.resources.database.ping, "jobs": self.jobs.ping}

    async def start(self) -> None:
        """Take up the work that a killed predecessor left, and begin to do what is asked."""
        for folder in (self.spool, self.work_dir):
            await asyncio.to_thread(_make_empty, folder)
        await self.resources.blobs.remove_leftovers()
        await self.chat.start()
        await self.jobs.start(alone=self.resources.is_alone)

    async def drain(self) -> None:
        """Begin no new turns, and let the running ones end, while sockets are still open."""
        await self.chat.drain()

    async def stop(self) -> None:
        await self.chat.stop()
        await self.jobs.stop()


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def compose(settings: Settings, secrets: Secrets, resources: Resources) -> Platform:
    database = resources.database
    work_dir = settings.data_dir / "work"
    events = EventLog()
    auth = auth_wiring.build(
        database,
        signing_key_pem=secrets.signing_key_pem,
        refresh_grace_seconds=settings.refresh_grace_seconds,
        password_hash=resources.password_hash,
    )
    personas = persona_wiring.build(database, members=auth.service)
    knowledge = knowledge_wiring.build(
        database,
        resources.blobs,
        resources.embedder,
        personas=personas.service,
        events=events,
        link_key=secrets.source_link_key,
        work_dir=work_dir,
    )
    replies = PersonaReplies(
        personas=personas.service,
        search=knowledge.search,
        links=knowledge.links,
        embedder=resources.embedder,
        model=resources.model,
    )
    chat = chat_wiring.build(
        database,
        replies=replies,
        personas=personas.service,
        members=auth.service,
        events=events,
        links=knowledge.links,
    )
    return Platform(
        resources=resources,
        auth=auth,
        personas=personas,
        answers=AnswerService(database, replies, events=events),
        knowledge=knowledge,
        chat=chat,
        jobs=JobRunner(database, knowledge.job_kinds),
        spool=settings.data_dir / "uploads",
        work_dir=work_dir,
    )
