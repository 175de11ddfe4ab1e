"""A deleted source is never cited again, and nothing of it is left."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.dying_platform import Point
from tests.support.platform import Caller, PlatformProcess
from tests.support.waiting import eventually
from tests.system.stored import StoredState
from tests.system.textbook import VILLAGES, fact_about, question_about, write_textbook

KABUGA = VILLAGES[0]


@pytest.fixture
def school(owner: Caller) -> Caller:
    """An organisation of the test's own, so that its files are its own too."""
    return Caller.register(owner.url)


@pytest.fixture(scope="module")
def booklet(folder: Path) -> Path:
    return write_textbook(folder / "booklet.pdf", villages=VILLAGES[:2])


def wait_until_gone(stored: StoredState, source_id: str) -> None:
    eventually(lambda: not stored.remains_of(source_id), "nothing is left of the source")


async def answer_over_the_socket(caller: Caller, persona_id: str, question: str) -> dict[str, Any]:
    async with caller.chat(persona_id) as socket:
        frames = await socket.ask(question)
    [answer] = [frame for frame in frames if frame["type"] == "message" and frame["message"]["sender"] == "assistant"]
    message: dict[str, Any] = answer["message"]
    return message


def test_from_the_moment_of_deletion_nothing_cites_finds_or_opens_the_source(
    school: Caller, stored: StoredState, booklet: Path
) -> None:
    persona_id = school.create_persona()
    source_id = school.add_document(persona_id, booklet)
    before = school.ask(persona_id, question_about(KABUGA))
    assert fact_about(KABUGA) in before["response_text"]
    address = before["citations"][0]["source_url"].partition("#")[0]
    assert school.http.get(address, headers={"Authorization": ""}).status_code == 200

    assert school.http.delete(f"/knowledge/{source_id}").status_code == 204

    after = school.ask(persona_id, question_about(KABUGA))
    assert (after["grounded"], after["citations"]) == (False, [])
    spoken = asyncio.run(answer_over_the_socket(school, persona_id, question_about(KABUGA)))
    assert (spoken["metadata"]["grounded"], spoken["metadata"]["citations"]) == (False, [])
    found = school.http.post("/knowledge/search", json={"persona_id": persona_id, "query": question_about(KABUGA)})
    assert found.json() == {"items": []}
    for path in (f"/knowledge/{source_id}/status", f"/knowledge/{source_id}/chunks", f"/knowledge/{source_id}/file"):
        assert school.http.get(path).status_code == 404
    assert school.http.get(address, headers={"Authorization": ""}).status_code == 404
    assert school.http.delete(f"/knowledge/{source_id}").status_code == 404
    wait_until_gone(stored, source_id)
    eventually(lambda: stored.blobs_of(school.org_id) == [], "its file is removed")


def test_deleting_one_of_two_sources_of_one_content_keeps_the_file_for_the_other(
    school: Caller, stored: StoredState, booklet: Path
) -> None:
    first, second = school.create_persona("First"), school.create_persona("Second")
    deleted, kept = school.add_document(first, booklet), school.add_document(second, booklet)
    assert len(stored.blobs_of(school.org_id)) == 1
    school.http.delete(f"/knowledge/{deleted}").raise_for_status()
    wait_until_gone(stored, deleted)
    assert school.http.get(f"/knowledge/{kept}/file").content == booklet.read_bytes()
    assert fact_about(KABUGA) in school.ask(second, question_about(KABUGA))["response_text"]


def test_a_source_deleted_while_it_is_indexed_leaves_nothing(
    school: Caller, stored: StoredState, textbook: Path
) -> None:
    persona_id = school.create_persona()
    source_id = school.upload(persona_id, textbook).json()["source_id"]
    assert any(status["stage"] == "embedding" for status in school.statuses(source_id))
    school.http.delete(f"/knowledge/{source_id}").raise_for_status()
    wait_until_gone(stored, source_id)
    eventually(lambda: stored.blobs_of(school.org_id) == [], "its file is removed")


def test_a_deleted_document_may_be_uploaded_again(school: Caller, stored: StoredState, booklet: Path) -> None:
    persona_id = school.create_persona()
    first = school.add_document(persona_id, booklet)
    school.http.delete(f"/knowledge/{first}").raise_for_status()
    wait_until_gone(stored, first)
    eventually(lambda: stored.blobs_of(school.org_id) == [], "its file is removed")
    second = school.add_document(persona_id, booklet)
    assert second != first
    assert fact_about(KABUGA) in school.ask(persona_id, question_about(KABUGA))["response_text"]


def test_a_document_sent_again_while_it_is_being_removed_is_taken_or_put_off(school: Caller, booklet: Path) -> None:
    """Either side may be first; in the end the file is whole."""
    persona_id = school.create_persona()
    deleted = school.add_document(persona_id, booklet)
    school.http.delete(f"/knowledge/{deleted}").raise_for_status()

    answer = school.upload(persona_id, booklet)
    while answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
        answer = school.upload(persona_id, booklet)

    again = answer.json()["source_id"]
    assert (answer.status_code, school.wait(again)["status"]) == (202, "ready")
    assert school.http.get(f"/knowledge/{again}/file").content == booklet.read_bytes()


async def test_an_open_conversation_does_not_cite_what_was_deleted_meanwhile(school: Caller, booklet: Path) -> None:
    persona_id = school.create_persona()
    source_id = school.add_document(persona_id, booklet)

    async with school.chat(persona_id) as socket:
        before = await socket.ask(question_about(KABUGA))
        await asyncio.to_thread(school.http.delete, f"/knowledge/{source_id}")
        after = await socket.ask(question_about(KABUGA))

    assert (_cited(before), _cited(after)) == ([source_id], [])


async def test_history_does_not_cite_what_was_deleted_since(school: Caller, booklet: Path) -> None:
    persona_id = school.create_persona()
    source_id = school.add_document(persona_id, booklet)
    async with school.chat(persona_id) as socket:
        said = await socket.ask(question_about(KABUGA))
    session_id = said[0]["session_id"]
    stored = f"/sessions/{session_id}/messages"
    before = (await asyncio.to_thread(school.http.get, stored)).json()["messages"][-1]

    await asyncio.to_thread(school.http.delete, f"/knowledge/{source_id}")

    after = (await asyncio.to_thread(school.http.get, stored)).json()["messages"][-1]
    assert ([citation["source_id"] for citation in before["metadata"]["citations"]], before["content"]) == (
        [source_id],
        after["content"],
    )
    assert source_id not in json.dumps(after)
    assert (after["metadata"]["citations"], after["metadata"]["grounded"]) == ([], False)
    async with school.chat(persona_id, session_id=session_id) as socket:
        history = [await socket.receive() for _ in ("session_info", "question", "answer")]
    assert (history[-1]["history"], history[-1]["message"]) == (True, after)


def _cited(frames: list[dict[str, Any]]) -> list[str]:
    messages = [frame["message"] for frame in frames if frame["type"] == "message"]
    return [citation["source_id"] for message in messages for citation in message["metadata"]["citations"]]


@pytest.mark.parametrize("point", [Point.CHUNKING, Point.EMBEDDING])
def test_a_source_deleted_while_it_is_indexed_is_removed_without_waiting_for_the_end_of_that(
    folder: Path, textbook: Path, point: Point
) -> None:
    data_dir, gate = folder / f"held-{point}", folder / f"gate-{point}"
    environment = {"HOLD_AT": point, "HOLD_UNTIL": str(gate)}
    platform = PlatformProcess(data_dir, module="tests.support.dying_platform", environment=environment)
    with platform, released_at_the_end(gate):
        stored, school = StoredState(data_dir), Caller.register(platform.url)
        source_id = school.upload(school.create_persona(), textbook).json()["source_id"]
        eventually(gate.with_suffix(".reached").exists, f"the source is held at {point}")

        school.http.delete(f"/knowledge/{source_id}").raise_for_status()

        wait_until_gone(stored, source_id)
        eventually(lambda: stored.blobs_of(school.org_id) == [], "its file is removed")
        eventually(lambda: not list((data_dir / "work").iterdir()), "its working copy is removed")


@contextmanager
def released_at_the_end(gate: Path) -> Iterator[None]:
    """Lets go what is held, or the platform could not be stopped."""
    try:
        yield
    finally:
        gate.touch()
