"""POST /knowledge/search: the contract's shape, and who may ask."""

from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from bwenge.kit.identity import Role
from tests.support.application import Application, Person
from tests.support.feature_app import code_of

LESSON = b"\n\n".join(
    [
        b"Simple interest is the principal multiplied by the rate and by the time.",
        b"The bus from Kigali to Huye carries adults and children.",
    ]
)


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    persona_id = await application.create_persona(owner)
    await application.add_document(owner, persona_id, LESSON, name="lesson.txt")
    return persona_id


async def search(application: Application, person: Person, persona: UUID, /, **fields: Any) -> httpx2.Response:
    body = {"persona_id": str(persona), "query": "simple interest"} | fields
    return await application.client.post("/knowledge/search", headers=person.headers, json=body)


async def test_a_hit_has_the_contracts_fields(application: Application, owner: Person, persona_id: UUID) -> None:
    (hit,) = (await search(application, owner, persona_id)).json()["items"]
    fields = {"chunk_id", "source_id", "title", "text", "score", "dense_score", "bm25_score", "locator"}
    assert hit.keys() == fields
    assert hit["title"] == "lesson"
    assert hit["locator"]["char_start"] == 0


async def test_a_hit_tells_the_scores_of_both_sides(application: Application, owner: Person, persona_id: UUID) -> None:
    (hit,) = (await search(application, owner, persona_id)).json()["items"]
    assert 0 < hit["score"] <= 1
    assert 0 < hit["dense_score"] <= 1
    assert hit["bm25_score"] > 0


@pytest.mark.parametrize("fusion", ["relative", "rrf"])
async def test_either_way_of_fusing_may_be_asked_for(
    application: Application, owner: Person, persona_id: UUID, fusion: str
) -> None:
    answer = await search(application, owner, persona_id, fusion=fusion, alpha=0.7, top_k=1)
    assert len(answer.json()["items"]) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"query": ""}, "query"),
        ({"query": "   "}, "query"),
        ({"query": "x" * 8_001}, "query"),
        ({"query": 7}, "query"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 51}, "top_k"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": 1.1}, "alpha"),
        ({"fusion": "sum"}, "fusion"),
        ({"persona_id": "abc"}, "persona_id"),
        ({"persona": "abc"}, "persona"),
    ],
)
async def test_a_wrong_field_is_named(
    application: Application, owner: Person, persona_id: UUID, fields: dict[str, Any], field: str
) -> None:
    answer = await search(application, owner, persona_id, **fields)
    assert code_of(answer) == (422, "invalid")
    assert [finding["field"] for finding in answer.json()["errors"]] == [field]


async def test_a_number_that_is_none_is_refused(application: Application, owner: Person, persona_id: UUID) -> None:
    """JSON has no NaN, but Python's reader lets it pass."""
    body = f'{{"persona_id": "{persona_id}", "query": "interest", "alpha": NaN}}'
    headers = owner.headers | {"Content-Type": "application/json"}
    answer = await application.client.post("/knowledge/search", headers=headers, content=body)
    assert code_of(answer) == (422, "invalid")


@pytest.mark.parametrize("query", ["💡", "'; DROP TABLE personas; --", "% _ \\", "a" * 8_000, "\u202e\u0301"])
async def test_any_text_may_be_asked(application: Application, owner: Person, persona_id: UUID, query: str) -> None:
    assert (await search(application, owner, persona_id, query=query)).status_code == 200


async def test_text_that_cannot_be_stored_is_refused(application: Application, owner: Person, persona_id: UUID) -> None:
    assert code_of(await search(application, owner, persona_id, query="a\x00b")) == (422, "invalid")


async def test_a_learner_may_not_search(application: Application, owner: Person, persona_id: UUID) -> None:
    learner = await application.add_member(owner.org_id, Role.USER)
    assert code_of(await search(application, learner, persona_id)) == (403, "forbidden")


async def test_another_experts_persona_may_be_searched(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    expert = await application.add_member(owner.org_id, Role.EXPERT)
    assert (await search(application, expert, persona_id)).json()["items"]


async def test_an_unknown_persona_is_404(application: Application, owner: Person) -> None:
    assert code_of(await search(application, owner, uuid4())) == (404, "not_found")


async def test_a_persona_without_material_finds_nothing(application: Application, owner: Person) -> None:
    persona_id = await application.create_persona(owner, name="Keza")
    assert (await search(application, owner, persona_id)).json() == {"items": []}
