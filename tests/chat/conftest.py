"""A chat service on a real server and a real database, between scripted neighbours."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from websockets.asyncio.client import connect

from bwenge.analytics.service import EventLog
from bwenge.auth.audit import AuditTrail
from bwenge.auth.classes import Classrooms
from bwenge.auth.tenants import TenantDirectory
from bwenge.chat.settings import ChatSettings
from bwenge.chat.wiring import ChatFeature, Reading, build, build_reading
from bwenge.kit.db import Database
from bwenge.kit.http.dependencies import provide
from bwenge.kit.http.problems import install_problem_handlers
from bwenge.kit.identity import Principal
from tests.chat.scripted import (
    ActiveMembers,
    ChatClient,
    Links,
    PersonaCards,
    School,
    ScriptedReplies,
    Tokens,
    answering,
)
from tests.support.quotas import plan_quotas
from tests.support.web_server import ServerInTest

SMALL_BUFFER = 4096
"""Bytes that the kernel holds for each side of a connection, so that a slow reader is noticed soon."""


@dataclass
class ChatServer:
    """What a test sees of the running service."""

    address: str
    feature: ChatFeature
    replies: ScriptedReplies
    members: ActiveMembers
    tokens: Tokens
    school: School
    engine: AsyncEngine
    http: httpx2.AsyncClient
    clients: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def connect(
        self,
        *,
        principal: Principal | None = None,
        token: str | None = None,
        persona_id: UUID | str | None = None,
        **query: str,
    ) -> ChatClient:
        """A socket of the learner's, by default, on which nothing was received yet."""
        token = token or self.tokens.issue(principal or self.school.learner)
        parameters = {"persona_id": str(persona_id or self.school.persona_id), **query}
        connection = await self.clients.enter_async_context(
            connect(
                f"ws://{self.address}/ws/chat?{httpx2.QueryParams(parameters)}",
                additional_headers={"Authorization": f"Bearer {token}"},
                proxy=None,
            )
        )
        return ChatClient(connection)

    async def connect_slowly(self, session_id: str) -> ChatClient:
        """A socket that takes little from the network unless it is read, and takes it as it was written."""
        host, port = self.address.split(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        query = httpx2.QueryParams({"persona_id": str(self.school.persona_id), "session_id": session_id})
        token = self.tokens.issue(self.school.learner)
        connection = await self.clients.enter_async_context(
            connect(
                f"ws://{self.address}/ws/chat?{query}",
                additional_headers={"Authorization": f"Bearer {token}"},
                sock=sock,
                compression=None,
                max_queue=1,
            )
        )
        return ChatClient(connection)

    async def opened(self, **query: Any) -> ChatClient:
        """A socket that has received its `session_info`."""
        client = await self.connect(**query)
        await client.until("session_info")
        return client

    async def request(
        self, method: str, path: str, *, principal: Principal | None = None, **params: Any
    ) -> httpx2.Response:
        token = self.tokens.issue(principal or self.school.learner)
        return await self.http.request(method, path, params=params, headers={"Authorization": f"Bearer {token}"})

    async def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """Look at the database past its row-level security."""
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), parameters)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


StartServer = Callable[..., Awaitable[ChatServer]]


@pytest.fixture
def school() -> School:
    return School()


@pytest.fixture
async def admin_engine(committed_url: URL) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(committed_url)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def start_server(
    committed_database: Database, admin_engine: AsyncEngine, school: School
) -> AsyncIterator[StartServer]:
    """Starts the service with a script of one's own."""
    async with admin_engine.begin() as connection:
        await school.store(connection)
    async with AsyncExitStack() as stack:

        async def start(replies: ScriptedReplies, settings: ChatSettings | None = None) -> ChatServer:
            return await stack.enter_async_context(
                running_server(committed_database, admin_engine, school=school, replies=replies, settings=settings)
            )

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> ChatServer:
    return await start_server(ScriptedReplies(answering("Plants ", "make sugar", " from light [1].")))


@asynccontextmanager
async def running_server(
    database: Database,
    engine: AsyncEngine,
    *,
    school: School,
    replies: ScriptedReplies,
    settings: ChatSettings | None,
) -> AsyncIterator[ChatServer]:
    members, tokens = ActiveMembers(), Tokens()
    feature = build(
        database,
        replies=replies,
        personas=PersonaCards(),
        members=members,
        events=EventLog(),
        links=Links(),
        quotas=plan_quotas(),
        # A script that nobody lets go on must not hold up the end of its test.
        settings=settings or ChatSettings(drain_seconds=0.2),
    )
    reading = build_reading(
        personas=PersonaCards(), classes=Classrooms(), tenants=TenantDirectory(), audit=AuditTrail(), links=Links()
    )
    app = _application(feature, reading, database, tokens=tokens, members=members)
    async with served(app) as address, httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as http:
        server = ChatServer(
            address=address,
            feature=feature,
            replies=replies,
            members=members,
            tokens=tokens,
            school=school,
            engine=engine,
            http=http,
        )
        await feature.start()
        async with server.clients:
            try:
                yield server
            finally:
                await feature.stop()


def _application(
    feature: ChatFeature, reading: Reading, database: Database, *, tokens: Tokens, members: ActiveMembers
) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    app.state.database = database
    app.state.token_verifier = tokens
    app.state.membership = members
    provide(app.state, feature.service, *reading.provided)
    app.include_router(feature.router)
    return app


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve on a free port of the loopback; yields host:port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    server = ServerInTest(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
