"""The routes of /personas: who may do what, and what they answer."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from bwenge.kit.ids import new_id
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of
from tests.support.schools import PERSONA, PersonaAPI, School

FIELDS = PERSONA.keys() | {"persona_id", "org_id", "owner_id", "version", "created_at", "updated_at"}
LEARNER_FIELDS = {"persona_id", "name", "description", "greeting", "language", "sample_prompts"}
WRITES = [("PUT", "", PERSONA), ("DELETE", "", None), ("POST", "/settings", {"top_k": 3})]


async def test_a_created_persona_answers_201_with_what_was_sent_and_its_origin(school: School) -> None:
    answer = await school.expert.post("/personas", PERSONA)

    made = answer.json()
    assert answer.status_code == 201
    assert made.keys() == FIELDS
    assert {name: made[name] for name in PERSONA} == PERSONA
    assert (made["org_id"], made["owner_id"]) == (str(school.org_id), str(school.expert.principal.user_id))
    assert made["version"] == 1
    assert made["created_at"].endswith("Z")
    assert made["updated_at"].endswith("Z")


async def test_a_name_is_enough(school: School) -> None:
    made = (await school.expert.post("/personas", {"name": "Mwalimu"})).json()

    assert {name: made[name] for name in PERSONA} == {
        "name": "Mwalimu",
        "description": "",
        "tone": {},
        "rules": {"guidelines": []},
        "sample_prompts": [],
        "safety_rules": [],
        "settings": {},
        "is_active": True,
    }


@pytest.mark.parametrize("maker", ["owner", "admin", "expert"])
async def test_experts_and_above_make_personas(school: School, maker: str) -> None:
    assert (await getattr(school, maker).post("/personas", PERSONA)).status_code == 201


async def test_a_learner_makes_no_persona(school: School) -> None:
    assert code_of(await school.learner.post("/personas", PERSONA)) == (403, "forbidden")


@pytest.mark.parametrize("reader", ["owner", "admin", "expert", "colleague"])
async def test_experts_and_above_read_the_whole_persona(school: School, reader: str) -> None:
    made = await school.expert.make_persona()

    answer = await getattr(school, reader).get(f"/personas/{made['persona_id']}")

    assert (answer.status_code, answer.json()) == (200, made)


async def test_a_learner_reads_nothing_of_a_personas_instructions(school: School) -> None:
    made = await school.expert.make_persona()

    answer = await school.learner.get(f"/personas/{made['persona_id']}")

    assert answer.json() == {
        "persona_id": made["persona_id"],
        "name": "Mwalimu Keza",
        "description": "Biology, senior two",
        "greeting": "Muraho!",
        "language": "rw",
        "sample_prompts": ["What is photosynthesis?"],
    }


async def test_a_learner_is_told_of_no_greeting_where_none_is_set(school: School) -> None:
    made = await school.expert.make_persona(settings={})

    shown = (await school.learner.get(f"/personas/{made['persona_id']}")).json()

    assert (shown["greeting"], shown["language"]) == (None, None)


async def test_a_learners_list_holds_no_instructions_either(school: School) -> None:
    await school.expert.make_persona()

    [item] = (await school.learner.get("/personas")).json()["items"]

    assert item.keys() == LEARNER_FIELDS


async def test_an_inactive_persona_is_there_for_experts_only(school: School) -> None:
    made = await school.expert.make_persona(is_active=False)
    path = f"/personas/{made['persona_id']}"

    assert (await school.colleague.get(path)).json() == made
    assert len((await school.colleague.get("/personas")).json()["items"]) == 1
    assert code_of(await school.learner.get(path)) == (404, "not_found")
    assert (await school.learner.get("/personas")).json()["items"] == []


async def test_pages_hold_every_persona_once_newest_first(school: School) -> None:
    made = [await school.expert.make_persona(name=f"Persona {number}") for number in range(5)]

    seen: list[str] = []
    cursor = ""
    pages = 0
    while cursor is not None:
        page = (await school.learner.get(f"/personas?limit=2{cursor and f'&cursor={cursor}'}")).json()
        seen += [item["persona_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        pages += 1

    assert seen == [persona["persona_id"] for persona in reversed(made)]
    assert pages == 3


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=abc", "cursor=%00", f"cursor={'x' * 65}"])
async def test_a_page_that_cannot_be_is_refused(school: School, query: str) -> None:
    assert code_of(await school.expert.get(f"/personas?{query}")) == (422, "invalid")


async def test_another_schools_personas_are_in_no_list(school: School, other_school: School) -> None:
    await other_school.expert.make_persona()

    assert (await school.owner.get("/personas")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(("method", "suffix", "body"), [("GET", "", None), *WRITES])
async def test_foreign_unknown_and_malformed_ids_get_one_answer(
    school: School, other_school: School, *, method: str, suffix: str, body: Any
) -> None:
    foreign = (await other_school.expert.make_persona())["persona_id"]

    answers = [
        await school.owner.call(method, f"/personas/{persona_id}{suffix}", body)
        for persona_id in (foreign, new_id(), "not-an-id", "0")
    ]

    assert {code_of(answer) for answer in answers} == {(404, "not_found")}
    for answer in answers:
        request_id = answer.json()["request_id"]
        assert request_id == answer.headers["x-request-id"]
    assert len({answer.content.replace(answer.json()["request_id"].encode(), b"") for answer in answers}) == 1
    assert len({frozenset(answer.headers.keys()) for answer in answers}) == 1


@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
async def test_another_experts_persona_is_read_only(school: School, *, method: str, suffix: str, body: Any) -> None:
    made = await school.expert.make_persona()
    path = f"/personas/{made['persona_id']}"

    assert code_of(await school.colleague.call(method, path + suffix, body)) == (403, "forbidden")
    assert (await school.colleague.get(path)).json() == made


@pytest.mark.parametrize("writer", ["owner", "admin", "expert"])
@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
async def test_its_owner_and_administrators_write_a_persona(
    school: School, *, writer: str, method: str, suffix: str, body: Any
) -> None:
    made = await school.expert.make_persona()

    answer = await getattr(school, writer).call(method, f"/personas/{made['persona_id']}{suffix}", body)

    assert answer.status_code == (204 if method == "DELETE" else 200)


@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
async def test_a_learner_writes_no_persona(school: School, *, method: str, suffix: str, body: Any) -> None:
    made = await school.expert.make_persona()

    answer = await school.learner.call(method, f"/personas/{made['persona_id']}{suffix}", body)

    assert code_of(answer) == (403, "forbidden")


@pytest.mark.parametrize(("method", "suffix", "body"), [("GET", "", None), *WRITES])
async def test_nobody_without_a_token_gets_anything(
    api: PersonaAPI, school: School, *, method: str, suffix: str, body: Any
) -> None:
    made = await school.expert.make_persona()

    answer = await api.client.request(method, f"/personas/{made['persona_id']}{suffix}", json=body)

    assert code_of(answer) == (401, "unauthenticated")


@pytest.mark.parametrize(("method", "suffix", "body"), [("POST", None, PERSONA), *WRITES])
async def test_a_deactivated_members_token_writes_nothing(
    school: School, *, database: SavepointDatabase, method: str, suffix: str | None, body: Any
) -> None:
    made = await school.expert.make_persona()
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET is_active = false WHERE role = 'expert'"))

    path = "/personas" if suffix is None else f"/personas/{made['persona_id']}{suffix}"

    assert code_of(await school.expert.call(method, path, body)) == (401, "unauthenticated")


async def test_put_replaces_everything_and_keeps_the_origin(school: School) -> None:
    made = await school.expert.make_persona()
    changed = {**PERSONA, "name": "Mwalimu Ineza", "settings": {"top_k": 8}, "is_active": False}

    answer = await school.admin.put(f"/personas/{made['persona_id']}", changed)

    after = answer.json()
    assert answer.status_code == 200
    assert {name: after[name] for name in PERSONA} == changed
    assert (after["owner_id"], after["created_at"]) == (made["owner_id"], made["created_at"])
    assert after["version"] == 2
    assert after["updated_at"] > made["updated_at"]
    assert (await school.expert.get(f"/personas/{made['persona_id']}")).json() == after


async def test_put_gives_what_is_left_out_its_default(school: School) -> None:
    made = await school.expert.make_persona()

    after = (await school.expert.put(f"/personas/{made['persona_id']}", {"name": "Mwalimu"})).json()

    assert (after["description"], after["tone"], after["settings"]) == ("", {}, {})


async def test_put_with_the_version_that_was_read_succeeds_once(school: School) -> None:
    made = await school.expert.make_persona()
    path = f"/personas/{made['persona_id']}"

    first = await school.expert.put(path, {**PERSONA, "version": 1})
    second = await school.admin.put(path, {**PERSONA, "version": 1})

    assert (first.status_code, first.json()["version"]) == (200, 2)
    assert code_of(second) == (409, "version_conflict")


async def test_a_deleted_persona_is_gone_from_every_route(school: School) -> None:
    made = await school.expert.make_persona()
    path = f"/personas/{made['persona_id']}"

    answer = await school.expert.delete(path)

    assert (answer.status_code, answer.content) == (204, b"")
    assert code_of(await school.owner.get(path)) == (404, "not_found")
    assert (await school.owner.get("/personas")).json()["items"] == []
    for method, suffix, body in WRITES:
        assert code_of(await school.owner.call(method, path + suffix, body)) == (404, "not_found")


async def test_deletion_keeps_the_row(school: School, database: SavepointDatabase) -> None:
    made = await school.expert.make_persona()
    await school.expert.delete(f"/personas/{made['persona_id']}")

    async with database.superuser() as connection:
        row = (await connection.execute(text("SELECT id, deleted_at, version FROM personas"))).one()

    assert (str(row.id), row.version) == (made["persona_id"], 2)
    assert row.deleted_at is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": ""}, id="an empty name"),
        pytest.param({"name": "   "}, id="a blank name"),
        pytest.param({"name": None}, id="no name"),
        pytest.param({"name": "x" * 121}, id="a long name"),
        pytest.param({"name": "two\nlines"}, id="a name of two lines"),
        pytest.param({"name": "nul\x00"}, id="NUL in a name"),
        pytest.param({"name": "\u200b\u3164"}, id="nothing to see in a name"),
        pytest.param({"name": "Keza\u202e"}, id="a name that reorders text"),
        pytest.param({"description": "x" * 2_001}, id="a long description"),
        pytest.param({"tone": {f"key {number}": "x" for number in range(21)}}, id="too many tones"),
        pytest.param({"tone": {"": "x"}}, id="an empty tone"),
        pytest.param({"tone": {"x" * 51: "x"}}, id="a long tone"),
        pytest.param({"tone": {"manner": "x" * 301}}, id="a long tone value"),
        pytest.param({"tone": {"manner": {"nested": "x"}}}, id="a nested tone"),
        pytest.param({"tone": {"manner": ["x"] * 21}}, id="a long list of tones"),
        pytest.param({"tone": {"manner": 10**7}}, id="a great number as tone"),
        pytest.param({"tone": {"nul\x00": "x"}}, id="NUL in a key"),
        pytest.param({"tone": ["patient"]}, id="a list as tone"),
        pytest.param({"rules": {"guidelines": ["x"] * 51}}, id="too many guidelines"),
        pytest.param({"rules": {"guidelines": ["x" * 1_001]}}, id="a long guideline"),
        pytest.param({"rules": {"guidelines": [" "]}}, id="a blank guideline"),
        pytest.param({"rules": {"other": []}}, id="an unknown rule"),
        pytest.param({"sample_prompts": ["x"] * 21}, id="too many sample prompts"),
        pytest.param({"sample_prompts": ["x" * 301]}, id="a long sample prompt"),
        pytest.param({"sample_prompts": "x"}, id="text as sample prompts"),
        pytest.param({"safety_rules": ["x"] * 51}, id="too many safety rules"),
        pytest.param({"safety_rules": [5]}, id="a number as safety rule"),
        pytest.param({"settings": {"unknown": 1}}, id="an unknown setting"),
        pytest.param({"is_active": "yes"}, id="text as is_active"),
        pytest.param({"org_id": str(new_id())}, id="another organisation"),
        pytest.param({"owner_id": str(new_id())}, id="another owner"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_bad_fields_are_refused_with_their_names(school: School, *, method: str, changes: dict[str, Any]) -> None:
    path = "/personas"
    if method == "PUT":
        path += f"/{(await school.expert.make_persona())['persona_id']}"

    answer = await school.expert.call(method, path, {**PERSONA, **changes})

    assert code_of(answer) == (422, "invalid")
    [field] = changes
    assert {error["field"].split(".")[0] for error in answer.json()["errors"]} <= {field, ""}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_json_does_not_have_are_refused(api: PersonaAPI, school: School, number: str) -> None:
    body = json.dumps({"name": "Mwalimu", "tone": {"warmth": "NUMBER"}}).replace('"NUMBER"', number)

    answer = await api.client.post(
        "/personas", content=body, headers={**school.expert.headers, "Content-Type": "application/json"}
    )

    assert code_of(answer) == (422, "invalid")
