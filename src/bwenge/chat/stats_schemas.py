"""Wire shapes of an organisation's chat statistics."""

from uuid import UUID

from pydantic import Field

from bwenge.kit.http.schemas import ResponseBody


class PersonaStats(ResponseBody):
    """`sessions` are active ones, `messages` are today's; both add up to the organisation's."""

    persona_id: UUID
    name: str | None = Field(description="null when the persona was deleted")
    sessions: int
    messages: int


class SessionStats(ResponseBody):
    """Today is the organisation's, by its time zone."""

    active_sessions: int = Field(description="Sessions with a message in the last 24 hours")
    active_turns: int = Field(description="Questions that are being answered now")
    messages_today: int
    by_persona: list[PersonaStats] = Field(description="The busiest first")
