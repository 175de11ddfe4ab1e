"""Logs are JSON lines that lead from an answer to what happened, and hold nothing that is nobody's business."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from bwenge.kit.telemetry import bind_request_id, configure_logging, current_request_id
from bwenge.providers.llm.fake import ScriptedModel
from tests.support.application import PASSWORD, open_application
from tests.support.databases import SavepointDatabase
from tests.support.logs import logging_restored

QUESTION = "What is the fare from Kigali to Huye?"
LESSON = b"The fare from Kigali to Huye is 3,200 francs."


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process configured as the platform is writes to its log."""
    stream = io.StringIO()
    with logging_restored(monkeypatch):
        configure_logging(logging.StreamHandler(stream), level="DEBUG")
        yield stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_of_json_with_its_time_level_and_logger(written: io.StringIO) -> None:
    structlog.get_logger("bwenge.test").info("source_failed", error_code="no_text\nsecond line")
    (line,) = lines(written)
    facts = {"event": "source_failed", "error_code": "no_text\nsecond line", "level": "info", "logger": "bwenge.test"}
    assert facts.items() <= line.items()
    assert line["timestamp"].endswith("Z")


def test_a_librarys_record_takes_the_same_form(written: io.StringIO) -> None:
    logging.getLogger("some.library").warning("retry %d of %d", 1, 3)
    (line,) = lines(written)
    assert (line["event"], line["level"], line["logger"]) == ("retry 1 of 3", "warning", "some.library")


def test_a_record_has_the_id_of_its_request_and_no_other(written: io.StringIO) -> None:
    with bind_request_id("trace-7"):
        structlog.get_logger("bwenge.test").info("inside")
        logging.getLogger("some.library").warning("inside too")
        assert current_request_id() == "trace-7"
    structlog.get_logger("bwenge.test").info("outside")
    assert [line.get("request_id") for line in lines(written)] == ["trace-7", "trace-7", None]


def test_an_exception_is_told_in_the_same_line(written: io.StringIO) -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError:
        structlog.get_logger("bwenge.test").exception("request_failed")
    (line,) = lines(written)
    assert "ValueError: what went wrong" in line["exception"]


async def test_a_lesson_and_a_question_leave_no_text_token_or_password_in_the_log(
    written: io.StringIO, database: SavepointDatabase, tmp_path: Path
) -> None:
    model = ScriptedModel(["The fare is 3,200 francs [1]."])
    async with open_application(database, tmp_path, model=model) as application:
        owner = await application.register()
        persona_id = await application.create_persona(owner)
        await application.add_document(owner, persona_id, LESSON, name="private lesson.txt")
        body = {"persona_id": str(persona_id), "user_message": QUESTION}
        answer = await application.client.post("/ai/respond", headers=owner.headers, json=body)
        address = answer.json()["citations"][0]["source_url"]
        await application.client.get(address)
    log = written.getvalue()
    assert '"route": "/ai/respond"' in log
    token = owner.headers["Authorization"].removeprefix("Bearer ")
    signature = address.partition("signature=")[2].partition("#")[0]
    for text in (QUESTION, "3,200 francs", PASSWORD, token, token.rpartition(".")[2], signature, "private lesson"):
        assert text not in log, text
