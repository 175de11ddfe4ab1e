"""Scripted neighbours of chat, and clients of its socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bwenge.kit.errors import NotFound, Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.knowledge.contract import LocatorFields
from bwenge.persona.contract import (
    Citation,
    PersonaCard,
    Reply,
    ReplyAnimation,
    ReplyDelta,
    ReplyEvent,
    ReplyRequest,
    Usage,
)

SECONDS = 10.0
"""Longest wait for anything that a test expects."""


class Gate:
    """A place in a script where the reply waits until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait_until_reached(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.reached.wait()


Step = ReplyEvent | Gate | Exception


class ScriptedReplies:
    """Gives each question the next script; the last one again and again."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = list(scripts)
        self.requests: list[ReplyRequest] = []
        self.closed = asyncio.Event()

    async def stream(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        self.requests.append(request)
        script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
        try:
            for step in script:
                if isinstance(step, Gate):
                    step.reached.set()
                    await step.opened.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed.set()


SOURCE_ID = UUID("01900000-0000-7000-8000-000000000001")
CHUNK_ID = UUID("01900000-0000-7000-8000-000000000002")


def citation(excerpt: str = "Plants make sugar from light.") -> Citation:
    return Citation(
        marker=1,
        source_id=SOURCE_ID,
        chunk_id=CHUNK_ID,
        title="Biology S1",
        text=excerpt,
        relevance_score=0.75,
        locator={"page": 3, "char_start": 0, "char_end": 29},
        source_url="https://expired.example/",
    )


def reply(text: str, **changes: Any) -> Reply:
    fields: dict[str, Any] = {
        "text": text,
        "citations": (citation(),),
        "grounded": True,
        "model": "scripted-1",
        "language": "en",
        "animation_hint": "explaining",
        "usage": Usage(prompt_tokens=12, completion_tokens=5),
        "actions": ({"type": "suggest_question", "payload": {"text": "Why green?"}},),
    }
    return Reply(**(fields | changes))


def answering(*deltas: str, **changes: Any) -> list[Step]:
    return [
        ReplyAnimation("thinking"),
        *(ReplyDelta(delta) for delta in deltas),
        reply("".join(deltas), **changes),
    ]


class Links:
    """Every source is there, but for those in `deleted`."""

    def __init__(self) -> None:
        self.deleted: set[UUID] = set()

    async def openable(self, session: AsyncSession, source_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        tenant = await session.scalar(text("SELECT current_setting('bwenge.org_id', true)"))
        assert tenant == str(org_id)
        return frozenset(source_ids) - self.deleted

    def source_url(self, source_id: UUID, org_id: UUID, *, locator: LocatorFields) -> str:
        return f"/knowledge/{source_id}/file?org={org_id}&signature=now#page={locator['page']}"


class PersonaCards:
    """Reads the tenant's personas as the product would, under its row-level security."""

    async def card(self, session: AsyncSession, principal: Principal, persona_id: UUID) -> PersonaCard:
        query = text("SELECT name, is_active FROM personas WHERE id = :id AND org_id = :org_id AND deleted_at IS NULL")
        row = (await session.execute(query, {"id": persona_id, "org_id": principal.org_id})).one_or_none()
        if row is None:
            raise NotFound
        return PersonaCard(persona_id=persona_id, name=row.name, is_active=row.is_active)

    async def names(
        self, session: AsyncSession, principal: Principal, persona_ids: Collection[UUID]
    ) -> Mapping[UUID, str]:
        cards = [await self.card(session, principal, persona_id) for persona_id in persona_ids]
        return {card.persona_id: card.name for card in cards}


class ActiveMembers:
    def __init__(self) -> None:
        self.deactivated: set[UUID] = set()

    async def require_active(self, session: AsyncSession, principal: Principal, *, hold: bool = False) -> None:  # noqa: ARG002  # the signature
        assert session.in_transaction()
        if principal.user_id in self.deactivated:
            raise Unauthenticated


class Tokens:
    """Tokens by their text; a test may make one expire."""

    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {}

    def issue(self, principal: Principal) -> str:
        token = new_id().hex
        self.principals[token] = principal
        return token

    def expire(self, token: str) -> None:
        del self.principals[token]

    def verify(self, token: str) -> Principal:
        if token not in self.principals:
            raise Unauthenticated
        return self.principals[token]


@dataclass(frozen=True)
class School:
    """An organisation with two learners and one persona."""

    org_id: UUID = field(default_factory=new_id)
    learner_id: UUID = field(default_factory=new_id)
    classmate_id: UUID = field(default_factory=new_id)
    persona_id: UUID = field(default_factory=new_id)

    @property
    def learner(self) -> Principal:
        return Principal(user_id=self.learner_id, org_id=self.org_id, role=Role.USER)

    @property
    def classmate(self) -> Principal:
        return Principal(user_id=self.classmate_id, org_id=self.org_id, role=Role.USER)

    async def store(self, connection: AsyncConnection) -> None:
        await connection.execute(
            text("INSERT INTO organizations (id, name) VALUES (:id, 'Groupe Scolaire Kimironko')"), {"id": self.org_id}
        )
        for user_id in (self.learner_id, self.classmate_id):
            await connection.execute(
                text(
                    "INSERT INTO users (id, org_id, name, username, password_hash, role)"
                    " VALUES (:id, :org_id, 'Keza', :username, '-', 'user')"
                ),
                {"id": user_id, "org_id": self.org_id, "username": user_id.hex},
            )
        await self.store_persona(connection, self.persona_id)

    async def store_persona(self, connection: AsyncConnection, persona_id: UUID) -> None:
        await connection.execute(
            text(
                "INSERT INTO personas (id, org_id, name, tone, rules, sample_prompts, safety_rules, settings)"
                " VALUES (:id, :org_id, 'Mwarimu', '{}', '{}', '[]', '[]', '{}')"
            ),
            {"id": persona_id, "org_id": self.org_id},
        )


Frames = list[dict[str, Any]]


class ChatClient:
    """One socket, and all that it has received."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: Frames = []

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
        self.frames.append(frame)
        return frame

    async def until(self, kind: str) -> Frames:
        """Receive frames to the first of that type, inclusive."""
        received = [await self.receive()]
        while received[-1]["type"] != kind:
            received.append(await self.receive())
        return received

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def ask(self, content: str, *, client_msg_id: UUID | None = None) -> UUID:
        client_msg_id = client_msg_id or new_id()
        await self.send(type="user_message", content=content, client_msg_id=str(client_msg_id))
        return client_msg_id

    async def whole_turn(self, content: str = "What is photosynthesis?") -> Frames:
        await self.ask(content)
        return await self.until("turn_finished")

    async def answers_to_ping(self) -> Frames:
        """Whatever came before the answer to a ping that is sent now."""
        await self.send(type="ping")
        return (await self.until("pong"))[:-1]

    async def close_code(self) -> int | None:
        """The server's close code, once whatever came before it is read."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.receive()
        return self.connection.close_code

    @property
    def session_id(self) -> str:
        return cast("str", self.frames[0]["session_id"])


def kinds(frames: Frames) -> list[str]:
    return [frame["type"] for frame in frames]


def numbers(frames: Frames) -> list[int]:
    return [frame["seq"] for frame in frames if "seq" in frame]


def joined(frames: Frames) -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == "delta")


def only(frames: Frames, kind: str, **fields: Any) -> dict[str, Any]:
    [frame] = [frame for frame in frames if frame["type"] == kind and _has(frame, fields)]
    return frame


def _has(frame: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(frame.get(name) == value for name, value in fields.items())
