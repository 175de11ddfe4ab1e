"""What a school does, from its registration to a deletion, on each topology: what one does, the other does too."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from bwenge.apps import front_page
from bwenge.apps.topology import PUBLIC_ROUTERS
from bwenge.apps.web import documented_app
from tests.support.platform import Caller, PlatformProcess
from tests.support.redis_server import require_redis
from tests.support.waiting import eventually
from tests.system.textbook import VILLAGES, fact_about, page_of, question_about, write_textbook

KABUGA = VILLAGES[0]


@pytest.fixture(scope="module", params=["all-in-one", "split"])
def topology(request: pytest.FixtureRequest) -> Iterator[PlatformProcess]:
    split = request.param == "split"
    if split:
        require_redis()
    with (
        TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder,
        PlatformProcess(Path(folder) / "data", split=split) as platform,
    ):
        yield platform


@pytest.fixture(scope="module")
def owner(topology: PlatformProcess) -> Iterator[Caller]:
    owner = Caller.register(topology.url)
    with owner.http:
        yield owner


@pytest.fixture(scope="module")
def booklet(topology: PlatformProcess) -> Path:
    return write_textbook(topology.data_dir.parent / "booklet.pdf", villages=VILLAGES[:3])


def join(owner: Caller, group_id: str) -> Caller:
    """A learner who came into the class by its link."""
    link = owner.http.post(
        f"/orgs/{owner.org_id}/join-links",
        json={
            "role": "user",
            "group_id": group_id,
            "max_uses": 1,
            "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        },
    )
    assert link.status_code == 201, link.text
    registered = httpx2.post(
        f"{owner.url}/auth/register",
        json={
            "name": "Keza",
            "join_token": link.json()["join_token"],
            "username": f"keza.{uuid4().hex[:12]}",
            "password": "imvura-y-itumba",
        },
        timeout=60,
        trust_env=False,
    )
    assert registered.status_code == 201, registered.text
    return Caller(owner.url, token=registered.json()["access_token"], org_id=owner.org_id)


async def ask(caller: Caller, persona_id: str, question: str) -> dict[str, Any]:
    """The answer over the socket, whose deltas are its text to the byte."""
    async with caller.chat(persona_id) as socket:
        frames = await socket.ask(question)
    kinds = [frame["type"] for frame in frames if "seq" in frame]
    assert kinds[0] == "message"
    assert kinds[-1] == "turn_finished"
    [answer] = [frame for frame in frames if frame["type"] == "message" and frame["message"]["sender"] == "assistant"]
    message: dict[str, Any] = answer["message"]
    assert "".join(frame["text"] for frame in frames if frame["type"] == "delta") == message["content"]
    return message


def test_a_school_from_its_registration_to_a_deletion(owner: Caller, booklet: Path) -> None:
    persona_id = owner.create_persona("Gabriel")
    group = owner.http.post(f"/orgs/{owner.org_id}/groups", json={"name": "S2 A"})
    assert group.status_code == 201, group.text
    group_id = group.json()["group_id"]
    put = owner.http.post(f"/orgs/{owner.org_id}/groups/{group_id}/personas", json={"persona_id": persona_id})
    assert put.status_code == 201, put.text

    accepted = owner.upload(persona_id, booklet)
    assert accepted.status_code == 202, accepted.text
    source_id = accepted.json()["source_id"]
    told = list(owner.statuses(source_id))
    assert told[-1]["status"] == "ready"
    assert (told[-1]["searchable"], told[-1]["page_count"]) == ("full", 3)
    assert all(before["progress"] <= after["progress"] for before, after in pairwise(told))

    learner = join(owner, group_id)
    with learner.http:
        assert [item["name"] for item in learner.http.get("/personas").json()["items"]] == ["Gabriel"]
        message = asyncio.run(ask(learner, persona_id, question_about(KABUGA)))
        assert fact_about(KABUGA) in message["content"]
        citation = message["metadata"]["citations"][0]
        assert citation["locator"]["page"] == page_of(KABUGA)
        place = f"{owner.url}{citation['source_url'].partition('#')[0]}"
        original = httpx2.get(place, timeout=60, trust_env=False)
        assert original.content == booklet.read_bytes()
        first = httpx2.get(place, headers={"Range": "bytes=0-4"}, timeout=60, trust_env=False)
        assert (first.status_code, first.content) == (206, b"%PDF-")

        assert owner.http.delete(f"/knowledge/{source_id}").status_code == 204
        after = asyncio.run(ask(learner, persona_id, question_about(KABUGA)))
    assert (after["metadata"]["grounded"], after["metadata"]["citations"]) == (False, [])


def test_a_stateless_answer_comes_as_json_and_as_a_stream(owner: Caller, booklet: Path) -> None:
    persona_id = owner.create_persona("Stream")
    owner.add_document(persona_id, booklet)
    assert fact_about(KABUGA) in owner.ask(persona_id, question_about(KABUGA))["response_text"]
    body = {"persona_id": persona_id, "user_message": question_about(KABUGA)}
    with owner.http.stream("POST", "/ai/respond", json=body, headers={"Accept": "text/event-stream"}) as answer:
        events = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]
    assert (events[0], events[-1]) == ("turn_started", "turn_finished")


def test_an_export_is_made_and_taken_home(owner: Caller) -> None:
    asked = owner.http.post(f"/orgs/{owner.org_id}/export")
    assert asked.status_code == 202, asked.text
    path = f"/jobs/{asked.json()['job_id']}"
    eventually(lambda: owner.http.get(path).json()["state"] in {"done", "dead"}, "the export has ended")
    job = owner.http.get(path).json()
    assert job["state"] == "done"
    assert owner.http.get(job["result_url"]).content.startswith(b"PK")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/internal/replies", 404, "not_found"),
        ("POST", "/internal/replies", 404, "not_found"),
        ("GET", "/personas", 401, "unauthenticated"),
        ("PUT", "/personas", 405, "method_not_allowed"),
    ],
)
def test_refusals_are_the_same_on_both(
    topology: PlatformProcess, method: str, path: str, status: int, code: str
) -> None:
    answer = httpx2.request(method, f"{topology.url}{path}", timeout=60, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_the_document_is_that_of_the_whole_platform(topology: PlatformProcess) -> None:
    document = httpx2.get(f"{topology.url}/openapi.json", timeout=60, trust_env=False).json()
    assert document == json.loads(json.dumps(documented_app((*PUBLIC_ROUTERS, front_page.router)).openapi()))
