"""POST /ai/respond by its contract, on the whole application."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from bwenge.analytics.models import AnalyticsEvent
from bwenge.kit.identity import Role
from bwenge.providers.llm.base import FailureReason, ModelStreamBroken
from bwenge.providers.llm.fake import ScriptedModel
from tests.support.application import Application, Person, open_application
from tests.support.databases import SavepointDatabase

LESSON = b"The fare from Kigali to Huye is 3,200 francs. The bus to Huye leaves from Nyabugogo at six in the morning.\n"
QUESTION = "What is the fare from Kigali to Huye?"


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    persona_id = await application.create_persona(owner)
    await application.add_document(owner, persona_id, LESSON)
    return persona_id


async def ask(application: Application, person: Person, persona_id: UUID, **fields: Any) -> Any:
    body = {"persona_id": str(persona_id), "user_message": QUESTION, **fields}
    return await application.client.post("/ai/respond", headers=person.headers, json=body)


async def test_an_answer_has_the_fields_of_the_contract(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    answer = (await ask(application, owner, persona_id, session_id="lesson-7")).json()
    assert answer.keys() == {
        *("response_text", "actions", "citations", "animation_hint", "session_id", "grounded", "model", "language"),
        "usage",
    }
    assert (answer["session_id"], answer["grounded"], answer["model"]) == ("lesson-7", True, "extractive")
    assert "3,200 francs" in answer["response_text"]
    [citation] = answer["citations"]
    assert citation.keys() == {
        *("marker", "source_id", "chunk_id", "title", "text", "relevance_score", "locator", "source_url"),
    }
    assert f"[{citation['marker']}]" in answer["response_text"]
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 0}


RULES = b"""# School rules

## Opening hours

The gate opens at seven.

## Fees

Boarders pay 85,000 francs each term at the bank before the second week of lessons.
"""


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("When does the gate open?", "School rules > Opening hours"),
        ("How many francs do boarders pay each term?", "School rules > Fees"),
    ],
)
async def test_a_citation_names_the_heading_of_its_sentence_where_sections_share_a_chunk(
    application: Application, owner: Person, question: str, heading: str
) -> None:
    persona_id = await application.create_persona(owner)
    await application.add_document(owner, persona_id, RULES, name="rules.md")
    [citation] = (await ask(application, owner, persona_id, user_message=question)).json()["citations"]
    assert "The gate opens" in citation["text"]
    assert "Boarders pay" in citation["text"]
    assert citation["locator"]["heading"] == heading


async def test_a_session_id_is_made_where_none_is_given(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    first, second = [(await ask(application, owner, persona_id)).json()["session_id"] for _ in range(2)]
    assert first != second


async def test_a_learner_may_ask_and_only_active_personas_answer(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    learner = await application.add_member(owner.org_id, Role.USER)
    assert (await ask(application, learner, persona_id)).status_code == 200
    body = {"name": "Gabriel", "is_active": False}
    changed = await application.client.put(f"/personas/{persona_id}", headers=owner.headers, json=body)
    assert changed.status_code == 200, changed.text
    assert (await ask(application, learner, persona_id)).status_code == 404


async def test_an_answer_leaves_an_event_and_no_text_of_the_question(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    await ask(application, owner, persona_id)
    async with database.unit_of_work(owner.org_id) as session:
        events = (
            (await session.execute(select(AnalyticsEvent).where(AnalyticsEvent.event_type == "answer_given")))
            .scalars()
            .all()
        )
    [event] = events
    assert (event.user_id, event.persona_id) == (owner.user_id, persona_id)
    assert "Huye" not in json.dumps(event.payload)


def frames_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def stream(application: Application, owner: Person, persona_id: UUID) -> Any:
    return await application.client.post(
        "/ai/respond",
        headers={**owner.headers, "Accept": "text/event-stream"},
        json={"persona_id": str(persona_id), "user_message": QUESTION},
    )


async def test_an_event_stream_carries_numbered_frames_that_join_to_the_answer(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    answer = await stream(application, owner, persona_id)
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = frames_of(answer.text)
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert [frames[0]["type"], frames[-2]["type"], frames[-1]["type"]] == ["turn_started", "message", "turn_finished"]
    message = frames[-2]["message"]
    assert message["content"] == "".join(frame["text"] for frame in frames if frame["type"] == "delta")
    assert message["sender"] == "assistant"
    assert message["metadata"]["citations"]


async def test_a_refusal_has_a_status_also_where_a_stream_was_asked_for(
    application: Application, owner: Person
) -> None:
    answer = await stream(application, owner, owner.org_id)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_stream_that_breaks_ends_with_what_was_seen_and_an_error_frame(
    database: SavepointDatabase, tmp_path: Path
) -> None:
    model = ScriptedModel(["The fare is ", ModelStreamBroken("primary", FailureReason.TIMEOUT)])
    async with open_application(database, tmp_path, model=model) as application:
        owner = await application.register()
        persona_id = await application.create_persona(owner)
        await application.add_document(owner, persona_id, LESSON)
        frames = frames_of((await stream(application, owner, persona_id)).text)
        assert [frame["type"] for frame in frames[-3:]] == ["error", "message", "turn_finished"]
        assert frames[-3]["code"] == "model_unavailable"
        assert frames[-2]["message"]["content"] == "The fare is "
        assert frames[-1]["finish_reason"] == "error"
        refused = await ask(application, owner, persona_id)
        assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")


async def test_history_reaches_the_model_and_nothing_else_does(database: SavepointDatabase, tmp_path: Path) -> None:
    model = ScriptedModel(["The fare is 3,200 francs [1]."])
    async with open_application(database, tmp_path, model=model) as application:
        owner = await application.register()
        persona_id = await application.create_persona(owner)
        await application.add_document(owner, persona_id, LESSON)
        history = [{"role": "user", "content": "Muraho!"}, {"role": "assistant", "content": "Muraho neza."}]
        await ask(application, owner, persona_id, context={"conversation_history": history})
        await ask(application, owner, persona_id)
    first, second = [[message.content for message in request.messages] for request in model.requests]
    assert "Muraho neza." in first
    assert "Muraho neza." not in second
