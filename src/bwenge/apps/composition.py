"""Features wired to resources and to each other."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bwenge.analytics.service import EventLog
from bwenge.apps.resources import Resources
from bwenge.apps.schedule import SCHEDULE, recurring_kinds
from bwenge.apps.scratch import remove_all_but_held
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.signing_keys import KeySet, SigningKeys
from bwenge.apps.topology import SERVICES
from bwenge.auth import custody_wiring
from bwenge.auth import wiring as auth_wiring
from bwenge.auth.audit import AuditTrail
from bwenge.auth.contract import AuditLog, SeatPolicy
from bwenge.auth.custody_wiring import CustodyFeature
from bwenge.auth.membership_wiring import Neighbours
from bwenge.auth.settings import AuthSettings
from bwenge.auth.tenants import TenantDirectory
from bwenge.auth.wiring import AuthFeature
from bwenge.chat import wiring as chat_wiring
from bwenge.chat.erasure import ConversationErasure
from bwenge.chat.wiring import ChatFeature, Reading
from bwenge.kit.db import Database
from bwenge.kit.http.service_calls import ServiceCalls
from bwenge.kit.http.system import ReadinessCheck
from bwenge.kit.idempotency.answers import KeptAnswers
from bwenge.kit.identity import TokenVerifier
from bwenge.kit.jobs.runner import JobRunner
from bwenge.kit.ratelimit import RateLimiter
from bwenge.kit.signing import Signer
from bwenge.knowledge import wiring as knowledge_wiring
from bwenge.knowledge.wiring import KnowledgeFeature
from bwenge.migrations.retention import tenant_catalogue
from bwenge.payments import wiring as payments_wiring
from bwenge.payments.wiring import PaymentsFeature
from bwenge.persona import wiring as persona_wiring
from bwenge.persona.answers import AnswerService
from bwenge.persona.contract import Replies
from bwenge.persona.directory import StoredPersonas
from bwenge.persona.replies import PersonaReplies
from bwenge.persona.wiring import PersonaFeature

TOMBSTONES: Final = "erased-organisations.jsonl"
"""Below the data directory; it outlives a database that is restored."""


@dataclass(frozen=True)
class Platform:
    """All features of one process, ready to be served."""

    resources: Resources
    signing_keys: SigningKeys
    auth: AuthFeature
    payments: PaymentsFeature
    custody: CustodyFeature
    personas: PersonaFeature
    replies: PersonaReplies
    service_calls: ServiceCalls
    answers: AnswerService
    knowledge: KnowledgeFeature
    chat: ChatFeature
    reading: Reading
    jobs: JobRunner
    rate_limiter: RateLimiter
    kept_answers: KeptAnswers
    spool: Path
    """Where uploads arrive."""
    work_dir: Path
    """Where documents are taken apart."""

    @property
    def token_verifier(self) -> TokenVerifier:
        return self.auth.token_verifier

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for."""
        return (
            *self.auth.provided,
            *self.payments.provided,
            *self.custody.provided,
            self.rate_limiter,
            self.kept_answers,
            self.service_calls,
            self.personas.service,
            self.replies,
            self.answers,
            *self.knowledge.provided,
            self.resources.blobs,
            self.chat.service,
            *self.reading.provided,
        )

    @property
    def readiness_checks(self) -> Mapping[str, ReadinessCheck]:
        return {"postgresql": self.resources.database.ping, "jobs": self.jobs.ping}

    @asynccontextmanager
    async def running(self, _app: object = None) -> AsyncIterator[None]:
        """All of it at work, as long as the block lasts."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Take up the work that a killed predecessor left, and begin to do what is asked."""
        for folder in (self.spool, self.work_dir):
            await asyncio.to_thread(_make_empty, folder)
        await self.resources.blobs.remove_leftovers()
        await self.begin(SERVICES)
        await self.jobs.start(alone=self.resources.is_alone)

    async def begin(self, services: Collection[str]) -> None:
        """What these services do beside answering, until `stop`."""
        self.signing_keys.start(self.auth.keys)
        if "auth" in services:
            await self.custody.erasure.replay()
        if "chat" in services:
            await self.chat.start()

    async def drain(self) -> None:
        """Begin no new turns, and let the running ones end, while sockets are still open."""
        await self.chat.drain()

    async def stop(self) -> None:
        await self.chat.stop()
        await self.jobs.stop()
        await self.rate_limiter.close()
        await self.auth.recovery.finish()
        await self.signing_keys.stop()


def _make_empty(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_all_but_held(folder)


def _auth(
    settings: Settings, secrets: Secrets, resources: Resources, *, signing_keys: KeySet, seats: SeatPolicy
) -> AuthFeature:
    return auth_wiring.build(
        resources.database,
        signing_key_pem=signing_keys.signing_key_pem,
        other_public_keys_pem=signing_keys.others_pem,
        settings=AuthSettings(
            account_key=secrets.account_key,
            public_url=settings.url,
            other_pages=settings.other_pages,
            refresh_grace_seconds=settings.refresh_grace_seconds,
        ),
        password_hash=resources.password_hash,
        neighbours=Neighbours(
            seats=seats,
            mailer=resources.mailer,
            personas=StoredPersonas(),
            member_removed=(ConversationErasure(),),
        ),
    )


def compose(
    settings: Settings,
    secrets: Secrets,
    resources: Resources,
    *,
    work_dir: Path | None = None,
    remote_replies: Replies | None = None,
) -> Platform:
    """Wire all features; nothing runs before `start`.

    Files are taken apart in `work_dir`, or in the shared one; chat asks for replies elsewhere where `remote_replies` is
    given.
    """
    database = resources.database
    work_dir = work_dir or settings.data_dir / "work"
    events = EventLog()
    payments = payments_wiring.build(database, tenants=TenantDirectory(), audit=AuditTrail())
    signing_keys = SigningKeys(secrets, settings.data_dir)
    auth = _auth(settings, secrets, resources, signing_keys=signing_keys.present(), seats=payments.quotas)
    custody = _custody(settings, secrets, resources, audit=auth.audit, work_dir=work_dir)
    personas = persona_wiring.build(database, members=auth.service, classes=auth.classes)
    knowledge = _knowledge(
        secrets, resources, personas=personas, auth=auth, payments=payments, events=events, work_dir=work_dir
    )
    replies = _replies(resources, personas, knowledge)
    return Platform(
        resources=resources,
        signing_keys=signing_keys,
        auth=auth,
        payments=payments,
        custody=custody,
        personas=personas,
        replies=replies,
        service_calls=service_calls(secrets),
        answers=AnswerService(database, replies, personas=personas.service, events=events, quotas=payments.quotas),
        knowledge=knowledge,
        chat=chat_wiring.build(
            database,
            replies=remote_replies or replies,
            personas=personas.service,
            members=auth.service,
            events=events,
            links=knowledge.links,
            quotas=payments.quotas,
        ),
        reading=_reading(auth, personas, knowledge),
        jobs=_runner(database, knowledge, custody),
        rate_limiter=_rate_limiter(settings),
        kept_answers=KeptAnswers(secrets.kept_answers_key),
        spool=settings.data_dir / "uploads",
        work_dir=work_dir,
    )


def _knowledge(
    secrets: Secrets,
    resources: Resources,
    *,
    personas: PersonaFeature,
    auth: AuthFeature,
    payments: PaymentsFeature,
    events: EventLog,
    work_dir: Path,
) -> KnowledgeFeature:
    return knowledge_wiring.build(
        resources.database,
        resources.blobs,
        resources.embedder,
        neighbours=knowledge_wiring.Neighbours(
            personas=personas.service,
            members=auth.service,
            tenants=TenantDirectory(),
            events=events,
            quotas=payments.quotas,
        ),
        link_key=secrets.source_link_key,
        work_dir=work_dir,
    )


def _runner(database: Database, knowledge: KnowledgeFeature, custody: CustodyFeature) -> JobRunner:
    kinds = (*knowledge.job_kinds, *custody.job_kinds, *recurring_kinds(database))
    return JobRunner(database, kinds, schedule=SCHEDULE)


def service_calls(secrets: Secrets) -> ServiceCalls:
    return ServiceCalls(Signer(secrets.service_call_key))


def _replies(resources: Resources, personas: PersonaFeature, knowledge: KnowledgeFeature) -> PersonaReplies:
    return PersonaReplies(
        personas=personas.service,
        search=knowledge.search,
        links=knowledge.links,
        embedder=resources.embedder,
        model=resources.model,
    )


def _reading(auth: AuthFeature, personas: PersonaFeature, knowledge: KnowledgeFeature) -> Reading:
    return chat_wiring.build_reading(
        personas=personas.service,
        classes=auth.classes,
        tenants=TenantDirectory(),
        audit=auth.audit,
        links=knowledge.links,
    )


def _rate_limiter(settings: Settings) -> RateLimiter:
    return RateLimiter(
        redis_url=None if settings.redis_url is None else settings.redis_url.get_secret_value(),
        overrides=settings.rate_limit_overrides,
        is_on=settings.rate_limits,
    )


def _custody(
    settings: Settings, secrets: Secrets, resources: Resources, *, audit: AuditLog, work_dir: Path
) -> CustodyFeature:
    return custody_wiring.build(
        resources.database,
        resources.blobs,
        audit=audit,
        catalogue=tenant_catalogue(),
        link_key=secrets.result_link_key,
        tombstones=settings.data_dir / TOMBSTONES,
        work_dir=work_dir,
    )
