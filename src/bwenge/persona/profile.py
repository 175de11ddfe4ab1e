"""What a persona is told to be, as far as an answer depends on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, Self
from uuid import UUID

from bwenge.knowledge.contract import Fusion


@dataclass(frozen=True, slots=True)
class PersonaProfile:
    """The part of a persona that answers are made from; `settings` holds only the keys that were set."""

    name: str
    description: str = ""
    tone: Mapping[str, Any] = field(default_factory=dict)
    guidelines: tuple[str, ...] = ()
    sample_prompts: tuple[str, ...] = ()
    safety_rules: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class PersonaSource(Protocol):
    """Where profiles come from. Opens its own unit of work.

    Raises:
        PersonaNotFound: unknown, foreign, deleted or inactive persona.
    """

    async def load(self, org_id: UUID, persona_id: UUID) -> PersonaProfile: ...


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """A persona's settings with the defaults filled in.

    Attributes:
        abstain_below: Support score in [0, 1] under which the persona says that its material does not hold the
            answer; None means the calibrated threshold.
        language: ISO 639-1; what the persona speaks when a question's own language has no built-in texts.
    """

    answer_mode: Literal["grounded", "open"] = "grounded"
    tutor_mode: Literal["answer", "hints"] = "answer"
    temperature: float = 0.2
    max_tokens: int = 700
    top_k: int = 5
    alpha: float | None = None
    fusion: Fusion = "relative"
    abstain_below: float | None = None
    language: str | None = None
    greeting: str | None = None
    fallback_text: str | None = None
    model: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """A setting of None counts as not set, as do keys that answers do not depend on."""
        names = {known.name for known in fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in names and value is not None})
