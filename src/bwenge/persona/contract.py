"""What other features may ask of personas: who they are, and a reply as a stream."""

from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.identity import Principal
from bwenge.knowledge.contract import LocatorFields

AnimationHint = Literal[
    "idle",
    "talking",
    "thinking",
    "happy",
    "sad",
    "excited",
    "greeting",
    "explaining",
    "pointing",
    "nodding",
    "shaking_head",
    "waving",
]
ReplyFinish = Literal["stop", "length", "error"]
EXTRACTIVE_MODEL: Final = "extractive"
"""The `model` of an answer that was composed from the material's own sentences, without a language model."""


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """A question to a persona. The history is older first and does not hold the question itself.

    `is_streamed` says that somebody reads along. Where nobody does, nothing has been shown before the end, so that an
    answer which turns out to be unsupported can still be withheld.
    """

    org_id: UUID
    persona_id: UUID
    question: str
    history: tuple[HistoryMessage, ...] = ()
    is_streamed: bool = True


@dataclass(frozen=True, slots=True)
class Citation:
    """A retrieved chunk that the answer cites; `marker` is the number in the text, `[1]`."""

    marker: int
    source_id: UUID
    chunk_id: UUID
    title: str
    text: str
    relevance_score: float
    locator: LocatorFields
    source_url: str


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """A piece of the answer, and the citations whose markers appear in it for the first time."""

    text: str
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplyAnimation:
    animation: AnimationHint


@dataclass(frozen=True, slots=True)
class Reply:
    """The finished answer, always the last event of a stream.

    `text` equals the joined deltas to the byte. `grounded` is false, and `citations` empty, when no source supports the
    answer: `text` is then the persona's fallback text, a courtesy, what a model said on its own in open mode, or, where
    somebody read along, what had been said when its end showed that no source says the same or that the source had been
    deleted meanwhile. `finish_reason` "error"
    means that the model's stream broke after the first delta: `text` is then what was seen until that moment, and
    `error_code` says why.
    """

    text: str
    citations: tuple[Citation, ...]
    grounded: bool
    model: str
    language: str
    animation_hint: AnimationHint
    finish_reason: ReplyFinish = "stop"
    error_code: str | None = None
    usage: Usage = Usage()
    actions: tuple[Mapping[str, Any], ...] = ()


ReplyEvent = ReplyDelta | ReplyAnimation | Reply


class Replies(Protocol):
    """Answers from a persona's material.

    `stream` yields deltas and animations as they come, then one `Reply`. Closing the iterator stops the model.

    Raises:
        PersonaNotFound: unknown, foreign, deleted or inactive persona.
    """

    def stream(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]: ...


@dataclass(frozen=True, slots=True)
class PersonaCard:
    """What a conversation needs to know of its persona."""

    persona_id: UUID
    name: str
    is_active: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


class Personas(Protocol):
    """An organisation's personas, as far as who asks may know of them."""

    async def card(self, session: AsyncSession, principal: Principal, persona_id: UUID) -> PersonaCard:
        """Raises `PersonaNotFound` for a persona that is unknown, deleted, or kept from the principal."""
        ...

    async def names(
        self, session: AsyncSession, principal: Principal, persona_ids: Collection[UUID]
    ) -> Mapping[UUID, str]:
        """Those of the personas that `card` finds, by their names."""
        ...
