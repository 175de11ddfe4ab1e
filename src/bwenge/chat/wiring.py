import os
import socket
from dataclasses import dataclass

from fastapi import APIRouter

from bwenge.analytics.contract import EventRecorder
from bwenge.auth.contract import Members
from bwenge.chat.hub import SessionHub
from bwenge.chat.leases import LeaseKeeper
from bwenge.chat.routes import router
from bwenge.chat.service import ChatService
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import TurnRecords
from bwenge.chat.turns import TurnRunner
from bwenge.kit.db import Database
from bwenge.kit.ids import new_id
from bwenge.knowledge.contract import CitedSources
from bwenge.persona.contract import Personas, Replies


@dataclass(frozen=True, slots=True)
class ChatFeature:
    """Chat, wired. The application provides `service` to its routes, and has `app.state.token_verifier`."""

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


def build(
    database: Database,
    *,
    replies: Replies,
    personas: Personas,
    members: Members,
    events: EventRecorder,
    links: CitedSources,
    settings: ChatSettings | None = None,
) -> ChatFeature:
    settings = settings or ChatSettings()
    owner = f"{socket.gethostname()}:{os.getpid()}:{new_id().hex[-12:]}"
    hub = SessionHub(sockets_per_user=settings.sockets_per_user)
    records = TurnRecords(database, events=events, links=links, owner=owner, settings=settings)
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
