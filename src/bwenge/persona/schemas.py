"""Wire shapes of personas. What is stored in their JSON columns has passed through here."""

import unicodedata
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StrictBool, StringConstraints

from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp
from bwenge.kit.visible import holds_controls, is_visible

Language = Literal["en", "fr", "rw", "sw"]


def _one_line(value: str) -> str:
    normal = unicodedata.normalize("NFC", value)
    if holds_controls(normal):
        raise ValueError("this is one line without control characters")
    if not is_visible(normal):
        raise ValueError("this holds a visible character")
    return normal


Name = Annotated[str, Field(min_length=1, max_length=120, examples=["Mwalimu Keza"]), AfterValidator(_one_line)]
Paragraph = Annotated[str, Field(min_length=1, max_length=1_000)]
Prompt = Annotated[str, Field(min_length=1, max_length=300)]
ToneKey = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_one_line)]
ToneWord = Annotated[str, Field(max_length=300)]
ToneNumber = Annotated[float, Field(strict=True, ge=-1e6, le=1e6, allow_inf_nan=False)]
ToneValue = ToneWord | StrictBool | ToneNumber | Annotated[list[ToneWord], Field(max_length=20)]
Tone = Annotated[dict[ToneKey, ToneValue], Field(max_length=20, examples=[{"manner": "patient", "humour": "light"}])]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=100)]


def _fraction(description: str) -> Any:
    return Field(default=None, strict=True, ge=0, le=1, allow_inf_nan=False, description=description)


class PersonaSettings(RequestBody):
    """What may be set of how a persona answers. A key that is null or left out has the platform's default."""

    answer_mode: Literal["grounded", "open"] | None = Field(
        default=None,
        description="`grounded` answers from the material only; `open` may add what it says is not from it",
    )
    tutor_mode: Literal["answer", "hints"] | None = Field(
        default=None, description="`hints` leads the learner to the answer instead of giving it"
    )
    temperature: float | None = Field(default=None, strict=True, ge=0, le=2, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, strict=True, ge=1, le=8192)
    top_k: int | None = Field(
        default=None, strict=True, ge=1, le=20, description="Passages that an answer is made from"
    )
    alpha: float | None = _fraction("Weight of the dense side of the search; by default by language")
    fusion: Literal["relative", "rrf"] | None = None
    abstain_below: float | None = _fraction("Support under which the persona says that its material holds no answer")
    language: Language | None = None
    greeting: Paragraph | None = None
    fallback_text: Paragraph | None = Field(default=None, description="Said when the material holds no answer")
    model: ModelName | None = None


class PersonaRules(RequestBody):
    guidelines: list[Paragraph] = Field(default_factory=list, max_length=50)


class PersonaBody(RequestBody):
    name: Name
    description: str = Field(default="", max_length=2_000)
    tone: Tone = Field(default_factory=dict)
    rules: PersonaRules = Field(default_factory=PersonaRules)
    sample_prompts: list[Prompt] = Field(default_factory=list, max_length=20)
    safety_rules: list[Paragraph] = Field(default_factory=list, max_length=50)
    settings: PersonaSettings = Field(default_factory=PersonaSettings)
    is_active: StrictBool = Field(
        default=True, description="An inactive persona answers nobody; learners do not see it"
    )

    def columns(self) -> dict[str, Any]:
        """As the table stores it; of the settings only what is set."""
        columns = self.model_dump(exclude={"settings", "version"})
        return {**columns, "settings": self.settings.model_dump(exclude_none=True)}


class PersonaReplacement(PersonaBody):
    """The whole persona anew: what is left out gets its default."""

    version: int | None = Field(
        default=None, strict=True, ge=1, description="The version that was read; 409 when it is not the present one"
    )


class PersonaResponse(ResponseBody):
    """`settings` holds only the keys that are set."""

    persona_id: UUID = Field(validation_alias="id")
    org_id: UUID
    owner_id: UUID | None
    name: str
    description: str
    tone: dict[str, Any]
    rules: PersonaRules
    sample_prompts: list[str]
    safety_rules: list[str]
    settings: dict[str, Any]
    is_active: bool
    version: int
    created_at: Timestamp
    updated_at: Timestamp


class LearnerPersonaResponse(ResponseBody):
    """What a learner may know of a persona: nothing of how it is instructed."""

    persona_id: UUID = Field(validation_alias="id")
    name: str
    description: str
    greeting: str | None
    language: str | None
    sample_prompts: list[str]
