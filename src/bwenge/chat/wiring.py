import os
import socket
from dataclasses import dataclass

from fastapi import APIRouter

from bwenge.analytics.contract import EventRecorder
from bwenge.auth.contract import AuditLog, Classes, Members, Tenants
from bwenge.chat.hub import SessionHub
from bwenge.chat.leases import LeaseKeeper
from bwenge.chat.routes import router
from bwenge.chat.service import ChatService
from bwenge.chat.session_stats import SessionStatistics
from bwenge.chat.settings import ChatSettings
from bwenge.chat.transcripts import Transcripts
from bwenge.chat.turn_records import TurnRecords
from bwenge.chat.turns import TurnRunner
from bwenge.kit.db import Database
from bwenge.kit.ids import new_id
from bwenge.knowledge.contract import CitedSources
from bwenge.payments.contract import Quotas
from bwenge.persona.contract import Personas, Replies


@dataclass(frozen=True, slots=True)
class ChatFeature:
    """Live chat, wired.

    The application provides `service` and a `Reading` to the routes, and has `app.state.token_verifier`.
    """

    router: APIRouter
    service: ChatService
    turns: TurnRunner
    leases: LeaseKeeper

    async def start(self) -> None:
        """End the turns of processes that died, and look after leases from now on."""
        await self.leases.start()

    async def drain(self) -> None:
        """Begin no turns, let the running ones finish, then close every socket with 1012.

        A web server that closes its sockets at shutdown has to be told to shut down after this.
        """
        await self.turns.drain()

    async def stop(self) -> None:
        await self.drain()
        await self.leases.stop()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was said, for those who may read it, and how much."""

    transcripts: Transcripts
    statistics: SessionStatistics

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for."""
        return self.transcripts, self.statistics


def build_reading(
    *, personas: Personas, classes: Classes, tenants: Tenants, audit: AuditLog, links: CitedSources
) -> Reading:
    return Reading(
        transcripts=Transcripts(classes=classes, audit=audit, links=links),
        statistics=SessionStatistics(personas=personas, tenants=tenants),
    )


def build(
    database: Database,
    *,
    replies: Replies,
    personas: Personas,
    members: Members,
    events: EventRecorder,
    links: CitedSources,
    quotas: Quotas,
    settings: ChatSettings | None = None,
) -> ChatFeature:
    settings = settings or ChatSettings()
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id().hex[-12:]}"
    hub = SessionHub(sockets_per_user=settings.sockets_per_user)
    records = TurnRecords(database, events=events, links=links, quotas=quotas, owner=owner, settings=settings)
    turns = TurnRunner(replies=replies, records=records, hub=hub, settings=settings)
    service = ChatService(
        database,
        personas=personas,
        members=members,
        links=links,
        hub=hub,
        turns=turns,
        records=records,
        settings=settings,
    )
    leases = LeaseKeeper(records, turns=turns, hub=hub, settings=settings)
    return ChatFeature(router=router, service=service, turns=turns, leases=leases)
