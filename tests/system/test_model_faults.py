"""The learner always gets an answer or a clear error, whatever the language-model server does."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.support.model_server import Fault, ModelServer, Script, refused_port
from tests.support.platform import Caller, PlatformProcess
from tests.system.textbook import VILLAGES, fact_about, question_about, write_textbook

KABUGA: Final = VILLAGES[0]
MODEL: Final = "scripted"
TOKENS: Final = ("The well ", "of Kabuga ", "is 20 metres deep", " [1]", " [9]", ".")
BRIEF: Final = {
    "BWENGE_LLM_MODEL": MODEL,
    "BWENGE_LLM_CONNECT_SECONDS": "2",
    "BWENGE_LLM_FIRST_TOKEN_SECONDS": "1.5",
    "BWENGE_LLM_BETWEEN_TOKENS_SECONDS": "1.5",
    "BWENGE_LLM_WHOLE_SECONDS": "20",
}
BOUND_SECONDS: Final = 30

Frames = list[dict[str, Any]]


class School:
    """A running platform with one persona that knows the villages."""

    def __init__(self, caller: Caller, persona_id: str, *, data_dir: Path) -> None:
        self.caller = caller
        self.persona_id = persona_id
        self.data_dir = data_dir

    async def ask(self, question: str = question_about(KABUGA)) -> Frames:
        async with asyncio.timeout(BOUND_SECONDS), self.caller.chat(self.persona_id) as socket:
            return await socket.ask(question)


@contextmanager
def platform_with(base_url: str, **environment: str) -> Iterator[School]:
    with (
        TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder,
        PlatformProcess(
            Path(folder) / "data", environment=BRIEF | {"BWENGE_LLM_BASE_URL": base_url} | environment
        ) as platform,
    ):
        caller = Caller.register(platform.url)
        persona_id = caller.create_persona(rules={"guidelines": ["Speak of wells with respect."]})
        caller.add_document(persona_id, write_textbook(Path(folder) / "villages.pdf", villages=VILLAGES[:3]))
        yield School(caller, persona_id, data_dir=platform.data_dir)


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer(Script(tokens=TOKENS)) as server:
        yield server


@pytest.fixture(scope="module")
def school(model: ModelServer) -> Iterator[School]:
    with platform_with(model.base_url) as school:
        yield school


@asynccontextmanager
async def scripted(school: School, model: ModelServer, script: Script) -> AsyncIterator[None]:
    """The model answers by this script; afterwards it is well, and asked again, which closes its circuit."""
    before, model.script = model.script, script
    try:
        yield
    finally:
        model.script = before
    await soon_answered_by_the_model(school)


async def soon_answered_by_the_model(school: School) -> None:
    """Over HTTP, for a learner may ask twenty questions a minute over sockets."""
    async with asyncio.timeout(BOUND_SECONDS):
        answered_by = ""
        while answered_by != MODEL:
            answer = await asyncio.to_thread(school.caller.ask, school.persona_id, question_about(KABUGA))
            answered_by = answer["model"]


async def test_a_source_deleted_while_the_model_writes_is_not_cited_by_its_answer(
    school: School, model: ModelServer, tmp_path: Path
) -> None:
    caller, gate = school.caller, asyncio.Event()
    persona_id = await asyncio.to_thread(caller.create_persona)
    document = write_textbook(tmp_path / "short-lived.pdf", villages=VILLAGES[:2])
    source_id = await asyncio.to_thread(caller.add_document, persona_id, document)
    script = Script(tokens=("It is 20 metres deep", " [1]", " all year."), gates={2: gate})
    async with asyncio.timeout(BOUND_SECONDS), scripted(school, model, script), caller.chat(persona_id) as socket:
        await socket.send(type="user_message", content=question_about(KABUGA), client_msg_id=str(uuid4()))
        while "[1]" not in (said := (await socket.until("delta"))[-1]["text"]):
            assert said
        await asyncio.to_thread(caller.http.delete, f"/knowledge/{source_id}")
        gate.set()
        frames = await socket.until("turn_finished")
    answer = answer_in(frames)
    assert answer["content"] == "It is 20 metres deep [1] all year."
    assert source_id not in json.dumps(answer)
    assert (answer["metadata"]["citations"], answer["metadata"]["grounded"]) == ([], False)


def of_kind(frames: Frames, kind: str) -> Frames:
    return [frame for frame in frames if frame["type"] == kind]


def answer_in(frames: Frames) -> dict[str, Any]:
    [frame] = [frame for frame in of_kind(frames, "message") if frame["message"]["sender"] == "assistant"]
    message: dict[str, Any] = frame["message"]
    return message


def streamed(frames: Frames) -> str:
    return "".join(frame["text"] for frame in of_kind(frames, "delta"))


async def test_tokens_pass_through_as_they_come_and_join_to_the_answer(school: School, model: ModelServer) -> None:
    gate = asyncio.Event()
    async with (
        asyncio.timeout(BOUND_SECONDS),
        scripted(school, model, Script(tokens=TOKENS, gates={1: gate})),
        school.caller.chat(school.persona_id) as socket,
    ):
        await socket.send(type="user_message", content=question_about(KABUGA), client_msg_id=_id(1))
        first = await socket.until("delta")
        assert first[-1]["text"] == TOKENS[0]
        gate.set()
        frames = first + await socket.until("turn_finished")
    answer = answer_in(frames)
    assert streamed(frames) == answer["content"]
    assert answer["metadata"]["model"] == MODEL
    assert frames[-1]["finish_reason"] == "stop"


async def test_an_invented_marker_never_reaches_the_learner(school: School, model: ModelServer) -> None:
    del model
    frames = await school.ask()
    answer = answer_in(frames)
    assert "[9]" not in streamed(frames)
    assert "[1]" in answer["content"]
    assert [citation["marker"] for citation in answer["metadata"]["citations"]] == [1]


async def test_the_prompt_holds_the_sources_and_the_personas_rules(school: School, model: ModelServer) -> None:
    await school.ask()
    prompt = json.dumps(model.requests[-1].body["messages"], ensure_ascii=False)
    assert fact_about(KABUGA) in prompt
    assert "Speak of wells with respect." in prompt
    assert question_about(KABUGA) in prompt


@pytest.mark.parametrize(
    "script",
    [
        Script(status=429, retry_after="0.1"),
        Script(status=500),
        Script(fault=Fault.STALL),
        Script(fault=Fault.CUT),
        Script(fault=Fault.GARBAGE),
    ],
    ids=["429", "500", "stall before the first token", "cut before the first token", "garbage"],
)
async def test_a_model_that_fails_before_its_first_token_is_replaced_by_the_materials_own_sentences(
    school: School, model: ModelServer, script: Script
) -> None:
    asked_before = len(model.requests)
    async with scripted(school, model, script):
        frames = await school.ask()
        assert len(model.requests) == asked_before + 1
    assert_extractive(frames)


async def test_a_refused_connection_is_replaced_by_the_materials_own_sentences(
    school: School, model: ModelServer
) -> None:
    port = model.port
    await model.stop()
    try:
        frames = await school.ask()
    finally:
        await model.start(port)
    assert_extractive(frames)
    await soon_answered_by_the_model(school)


def assert_extractive(frames: Frames) -> None:
    answer = answer_in(frames)
    assert answer["metadata"]["model"] == "extractive"
    assert fact_about(KABUGA) in answer["content"]
    assert answer["metadata"]["citations"]
    assert of_kind(frames, "error") == []


async def test_the_next_provider_answers_when_the_first_refuses(model: ModelServer) -> None:
    providers = json.dumps([{"base_url": model.base_url, "model": "second", "name": "second"}])
    with refused_port() as port, platform_with(f"http://127.0.0.1:{port}/v1", BWENGE_LLM_PROVIDERS=providers) as school:
        answer = answer_in(await school.ask())
    assert answer["metadata"]["model"] == "second"


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.CUT])
async def test_a_stream_that_breaks_keeps_what_was_seen_and_says_so(
    school: School, model: ModelServer, fault: Fault
) -> None:
    async with scripted(school, model, Script(tokens=TOKENS, fault=fault, fault_after=3)):
        frames = await school.ask()
    assert streamed(frames) == "".join(TOKENS[:3])
    [error] = of_kind(frames, "error")
    assert (error["code"], error["turn_id"]) == ("model_unavailable", frames[-1]["turn_id"])
    assert answer_in(frames)["content"] == streamed(frames)
    assert answer_in(frames)["metadata"]["finish_reason"] == "error"
    assert frames[-1]["finish_reason"] == "error"
    sessions = school.caller.http.get("/sessions").json()["items"]
    stored = school.caller.http.get(f"/sessions/{sessions[0]['session_id']}/messages").json()["messages"]
    assert stored[-1]["content"] == streamed(frames)


async def test_over_http_a_broken_stream_is_a_clear_refusal(school: School, model: ModelServer) -> None:
    async with scripted(school, model, Script(tokens=TOKENS, fault=Fault.CUT, fault_after=3)):
        answer = await asyncio.to_thread(
            school.caller.http.post,
            "/ai/respond",
            json={"persona_id": school.persona_id, "user_message": question_about(KABUGA)},
        )
    assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_over_http_a_model_that_does_not_begin_is_replaced_too(school: School, model: ModelServer) -> None:
    async with scripted(school, model, Script(status=500)):
        answer = await asyncio.to_thread(school.caller.ask, school.persona_id, question_about(KABUGA))
    assert answer["model"] == "extractive"
    assert fact_about(KABUGA) in answer["response_text"]
    assert answer["citations"]


async def server_sent(school: School) -> Frames:
    answer = await asyncio.to_thread(
        school.caller.http.post,
        "/ai/respond",
        json={"persona_id": school.persona_id, "user_message": question_about(KABUGA)},
        headers={"Accept": "text/event-stream"},
    )
    frames = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    return frames


async def test_server_sent_events_carry_the_protocols_frames(school: School) -> None:
    frames = await server_sent(school)
    kinds = [frame["type"] for frame in frames if frame["type"] != "animation"]
    assert kinds[0] == "turn_started"
    assert kinds[-2:] == ["message", "turn_finished"]
    assert set(kinds[1:-2]) == {"delta"}
    assert streamed(frames) == answer_in(frames)["content"]


async def test_server_sent_events_of_a_broken_stream_keep_what_was_seen_and_say_so(
    school: School, model: ModelServer
) -> None:
    async with scripted(school, model, Script(tokens=TOKENS, fault=Fault.CUT, fault_after=3)):
        frames = await server_sent(school)
    assert streamed(frames) == answer_in(frames)["content"] == "".join(TOKENS[:3])
    assert [frame["code"] for frame in of_kind(frames, "error")] == ["model_unavailable"]
    assert frames[-1]["finish_reason"] == "error"


async def test_a_model_servers_key_is_sent_to_it_and_written_nowhere() -> None:
    async with ModelServer(Script(tokens=TOKENS), api_key="sk-another-key") as server:
        with platform_with(server.base_url, BWENGE_LLM_API_KEY="sk-the-schools-own-key") as school:
            answer = answer_in(await school.ask())
            logs = "".join(
                path.read_text(encoding="utf-8", errors="replace")
                for path in school.data_dir.rglob("*.log")
                if path.is_file()
            )
    assert answer["metadata"]["model"] == "extractive"
    assert "llm_provider_failed" in logs
    assert "schools-own" not in logs


def _id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"
