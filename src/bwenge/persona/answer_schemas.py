"""Wire shapes of answers."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from bwenge.kit.http.schemas import RequestBody, ResponseBody
from bwenge.persona.contract import AnimationHint, Reply

MAX_QUESTION_CHARACTERS = 8_000


class PastMessage(RequestBody):
    role: Literal["user", "assistant"]
    content: str = Field(max_length=32_000)


class RespondContext(RequestBody):
    conversation_history: list[PastMessage] = Field(default_factory=list, max_length=100)


class RespondRequest(RequestBody):
    """A stateless question: history comes from `context` alone."""

    persona_id: UUID
    user_message: str = Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    session_id: str | None = Field(default=None, min_length=1, max_length=200, description="Opaque, echoed")
    context: RespondContext = Field(default_factory=RespondContext)


class CitationItem(ResponseBody):
    marker: int
    source_id: UUID
    chunk_id: UUID
    title: str
    text: str
    relevance_score: float
    locator: dict[str, Any]
    source_url: str


class UsageItem(ResponseBody):
    prompt_tokens: int
    completion_tokens: int


class Answer(ResponseBody):
    response_text: str
    actions: list[dict[str, Any]]
    citations: list[CitationItem]
    animation_hint: AnimationHint
    session_id: str
    grounded: bool
    model: str
    language: str
    usage: UsageItem

    @classmethod
    def of(cls, reply: Reply, *, session_id: str) -> "Answer":
        return cls(
            response_text=reply.text,
            actions=[dict(action) for action in reply.actions],
            citations=[CitationItem.model_validate(citation) for citation in reply.citations],
            animation_hint=reply.animation_hint,
            session_id=session_id,
            grounded=reply.grounded,
            model=reply.model,
            language=reply.language,
            usage=UsageItem.model_validate(reply.usage),
        )
