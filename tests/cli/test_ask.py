"""`bwenge ask`: whom it asks as, what it prints, and what it says when there is no answer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from bwenge.cli import asking, documents
from tests.cli.conftest import PERSONAS, Command, ScriptedPlatform
from tests.support.model_server import refused_port


def citation(**changes: Any) -> dict[str, Any]:
    return {
        "marker": 1,
        "title": "Percentages [draft]",
        "text": "A percentage is a number expressed\nas a fraction of one hundred.",
        "locator": {"page": 3, "heading": "1 Percentages"},
        "source_url": "/knowledge/1/file?org=2#page=3",
        **changes,
    }


def status(name: str, **changes: Any) -> dict[str, Any]:
    done = {"stage": "done", "progress": 1.0, "chunk_count": 4, "warnings": []}
    return {"status": name, **done, **changes}


async def test_the_answer_is_printed_as_it_came_with_brackets_and_all(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    platform.answer_with("A [bold]percentage[/bold] is a fraction [1].")
    ended = await bwenge("ask", "What is it?", "-p", "Gabriel", **as_learner)
    assert (ended.code, ended.output) == (0, "A [bold]percentage[/bold] is a fraction [1].\n")


async def test_the_question_is_asked_of_the_persona_that_was_named(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    platform.answer_with("Yes.")
    await bwenge("ask", "What is it?", "-p", "keza", **as_learner)
    (asked,) = platform.asked
    assert (asked["persona_id"], asked["content"]) == (PERSONAS[1]["persona_id"], "What is it?")


@pytest.mark.parametrize(
    ("locator", "place"),
    [
        ({"page": 3, "heading": "1 Percentages"}, ", page 3"),
        ({"heading": "1 Percentages > 1.1"}, ", “1 Percentages > 1.1”"),
        ({"char_start": 0, "char_end": 9}, ""),
    ],
)
async def test_a_source_is_printed_with_its_number_title_place_quotation_and_address(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str], locator: dict[str, Any], place: str
) -> None:
    platform.answer_with("A fraction [1].", citation(locator=locator))
    ended = await bwenge("ask", "What is it?", "-p", "Gabriel", **as_learner)
    assert ended.output.splitlines()[1:] == [
        "",
        "Sources",
        f"[1] Percentages [draft]{place}",
        "    “A percentage is a number expressed as a fraction of one hundred.”",
        f"    {platform.url}/knowledge/1/file?org=2#page=3",
    ]


async def test_a_long_quotation_is_shortened(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    platform.answer_with("A fraction [1].", citation(text="word " * 500))
    ended = await bwenge("ask", "What is it?", "-p", "Gabriel", **as_learner)
    quotation = "".join(line for line in ended.output.splitlines() if "word" in line)
    assert quotation.endswith("…”")
    assert len(quotation) < asking.QUOTE_CHARACTERS + 40


async def test_a_quotation_begins_where_the_passage_speaks_of_the_answer(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    passage = "College is not for all. Many arrive late.\nSakichi Toyoda came up with the Five Whys. It helped."
    platform.answer_with("Sakichi Toyoda came up with it [1].", citation(text=passage))
    ended = await bwenge("ask", "Who came up with it?", "-p", "Gabriel", **as_learner)
    assert "“… Sakichi Toyoda came up with the Five Whys. It helped.”" in ended.output


async def test_the_demo_is_asked_as_its_learner_and_its_tutor(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.answer_with("Yes.")
    assert (await bwenge("ask", "What is it?")).code == 0
    assert platform.logins == ["demo.learner"]
    assert platform.asked[0]["persona_id"] == json.loads(demo_file.read_text())["persona_id"]


async def test_a_document_is_sent_as_the_demos_owner_and_waited_for(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "POLL_SECONDS", 0.001)
    platform.answer_with("Yes.")
    platform.statuses = [
        status("pending", stage="queued", progress=0.0, chunk_count=0),
        status("processing", stage="embedding", progress=0.5),
        status("ready"),
    ]
    book = demo_file.parent / "[draft] book.txt"
    book.write_text("The fare is 3,200 francs.")
    ended = await bwenge("ask", "--file", str(book), "What is it?")
    assert ended.code == 0
    assert platform.logins == ["owner@demo.example"]
    assert platform.personas[-1]["name"] == "[draft] book"
    assert platform.asked[0]["persona_id"] == platform.personas[-1]["persona_id"]
    assert 'Made a persona "[draft] book"' in ended.output
    assert b"The fare is 3,200 francs." in platform.uploads[0]
    assert "4 passages" in ended.output


async def test_a_document_sent_again_is_asked_by_the_persona_that_was_made_for_it(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.answer_with("Yes.")
    platform.statuses = [status("ready")]
    book = demo_file.parent / "book.txt"
    book.touch()
    for _ in range(2):
        await bwenge("ask", "--file", str(book), "What is it?")
    assert [persona["name"] for persona in platform.personas] == ["Gabriel", "Keza", "book"]
    assert len({asked["persona_id"] for asked in platform.asked}) == 1


async def test_a_document_may_be_sent_to_a_persona_that_is_there(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.answer_with("Yes.")
    platform.statuses = [status("ready")]
    book = demo_file.parent / "book.txt"
    book.touch()
    await bwenge("ask", "--file", str(book), "--persona", "Keza", "What is it?")
    assert platform.asked[0]["persona_id"] == PERSONAS[1]["persona_id"]
    assert platform.personas == PERSONAS


async def test_a_document_that_cannot_be_read_is_a_failure_with_its_reason(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.statuses = [status("failed", error_message="The file holds nothing", error_code="empty_file")]
    book = demo_file.parent / "book.txt"
    book.touch()
    ended = await bwenge("ask", "--file", str(book), "What is it?")
    assert (ended.code, ended.complaint) == (1, "bwenge: book.txt: The file holds nothing (empty_file)\n")
    assert platform.asked == []
    assert platform.personas == PERSONAS
    assert "Made a persona" not in ended.output


async def test_a_refused_document_leaves_no_persona_behind(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.refusals["/knowledge/upload"] = JSONResponse({"detail": "Not a document", "code": "unsupported_type"}, 415)
    book = demo_file.parent / "book.txt"
    book.touch()
    ended = await bwenge("ask", "--file", str(book), "What is it?")
    assert (ended.code, ended.complaint) == (1, "bwenge: Not a document (unsupported_type)\n")
    assert platform.personas == PERSONAS


async def test_another_document_of_the_same_name_has_a_persona_of_its_own(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.answer_with("Yes.")
    platform.statuses = [status("ready")]
    platform.personas = [{"persona_id": f"018f0000-0000-7000-8001-{n:012}", "name": f"book{n}"} for n in range(2)]
    platform.personas[0]["name"], platform.personas[1]["name"] = "book", "book (2)"
    platform.sizes = {platform.personas[0]["persona_id"]: [1_000], platform.personas[1]["persona_id"]: [4, 5]}
    book = demo_file.parent / "book.txt"
    book.write_text("text")
    ended = await bwenge("ask", "--file", str(book), "What is it?")
    assert [persona["name"] for persona in platform.personas] == ["book", "book (2)", "book (3)"]
    assert platform.asked[0]["persona_id"] == platform.personas[2]["persona_id"]
    assert 'Made a persona "book (3)"' in ended.output


async def test_what_could_not_be_read_of_a_document_is_told(
    bwenge: Command, platform: ScriptedPlatform, demo_file: Path
) -> None:
    platform.answer_with("Yes.")
    warning = {"code": "pages_without_text", "message": "2 pages hold no text", "count": 2, "pages": [3, 4]}
    platform.statuses = [status("ready", chunk_count=1, warnings=[warning])]
    book = demo_file.parent / "book.txt"
    book.touch()
    output = (await bwenge("ask", "--file", str(book), "What is it?")).output
    assert "1 passage " in output
    assert "Note: 2 pages hold no text (page 3, 4).\n" in output


@pytest.mark.parametrize("content", [b"", b"{half", b"[]", b"{}", b"\xff", b'{"url": "http://127.0.0.1:1"}'])
async def test_a_damaged_demo_file_is_named(bwenge: Command, demo_file: Path, content: bytes) -> None:
    demo_file.write_bytes(content)
    ended = await bwenge("ask", "What is it?")
    assert ended.code == 1
    assert ended.complaint == "bwenge: data/demo.json cannot be read; remove it and start the platform again.\n"


async def test_a_demo_file_that_is_a_folder_is_named(bwenge: Command, demo_file: Path) -> None:
    demo_file.unlink()
    demo_file.mkdir()
    assert "data/demo.json cannot be read" in (await bwenge("ask", "What is it?")).complaint


async def test_without_any_account_it_says_how_to_get_one(bwenge: Command) -> None:
    ended = await bwenge("ask", "What is it?")
    assert ended.code == 1
    assert "`bwenge up`" in ended.complaint
    assert "BWENGE_TOKEN" in ended.complaint


async def test_a_platform_that_is_not_there_is_named(bwenge: Command) -> None:
    with refused_port() as port:
        url = f"http://127.0.0.1:{port}"
        ended = await bwenge("ask", "What is it?", BWENGE_URL=url, BWENGE_TOKEN="t")
    assert (ended.code, ended.complaint) == (
        1,
        f"bwenge: No platform answers at {url}. Start it with `bwenge up`.\n",
    )


@pytest.mark.parametrize("address", ["bwenge.example", "http://127.0.0.1:port", "http://[::1", "file:///etc"])
async def test_an_address_that_is_none_is_a_failure_in_words(bwenge: Command, address: str) -> None:
    ended = await bwenge("ask", "What is it?", BWENGE_URL=address, BWENGE_TOKEN="t")
    assert ended.code == 1
    assert ended.complaint.startswith("bwenge: ")


@pytest.mark.parametrize("token", ["clé", "two words\nand lines", "\x00"])
async def test_a_token_that_no_header_can_hold_is_told_and_not_shown(
    bwenge: Command, platform: ScriptedPlatform, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ, "BWENGE_URL": platform.url, "BWENGE_TOKEN": token})
    ended = await bwenge("ask", "What is it?")
    assert (ended.code, ended.complaint) == (1, "bwenge: BWENGE_TOKEN holds characters that no access token has.\n")


async def test_a_token_may_end_with_the_line_of_its_file(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    platform.answer_with("Yes.")
    token = {"BWENGE_TOKEN": as_learner["BWENGE_TOKEN"] + "\n"}
    assert (await bwenge("ask", "What is it?", "-p", "Keza", **as_learner | token)).code == 0


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<h1>It works!</h1>"),
        RedirectResponse("https://127.0.0.1/personas"),
        JSONResponse({"personas": []}),
        JSONResponse(["Gabriel"]),
        JSONResponse(None),
    ],
    ids=["a page", "a redirect", "other fields", "a list", "null"],
)
async def test_something_else_at_the_address_is_told(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str], answer: Response
) -> None:
    platform.refusals["/personas"] = answer
    ended = await bwenge("ask", "What is it?", **as_learner)
    assert (ended.code, ended.complaint) == (1, f"bwenge: What answers at {platform.url} is no Bwenge OS.\n")


async def test_a_refusal_is_told_in_the_platforms_own_words(bwenge: Command, platform: ScriptedPlatform) -> None:
    ended = await bwenge("ask", "What is it?", BWENGE_URL=platform.url, BWENGE_TOKEN="wrong-token")
    assert (ended.code, ended.complaint) == (1, "bwenge: Sign in first (unauthenticated)\n")
    assert "wrong-token" not in ended.output + ended.complaint


async def test_a_refusal_without_words_is_told_by_its_status(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    platform.refusals["/personas"] = HTMLResponse("Bad Gateway", 502)
    assert (await bwenge("ask", "?", **as_learner)).complaint == "bwenge: The platform answered 502.\n"


async def test_an_unknown_persona_lists_those_that_there_are(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    ended = await bwenge("ask", "What is it?", "-p", "Claudine [/red]", **as_learner)
    assert (ended.code, ended.complaint) == (
        1,
        "bwenge: There is no persona called Claudine [/red]. There are: Gabriel, Keza.\n",
    )
    assert platform.asked == []


@pytest.mark.usefixtures("platform")
async def test_a_choice_between_personas_is_asked_for(bwenge: Command, as_learner: dict[str, str]) -> None:
    ended = await bwenge("ask", "What is it?", **as_learner)
    assert (ended.code, ended.complaint) == (1, "bwenge: Choose a persona with --persona: Gabriel, Keza.\n")


async def test_where_there_is_one_persona_it_is_asked(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    del platform.personas[1:]
    platform.answer_with("Yes.")
    assert (await bwenge("ask", "What is it?", **as_learner)).code == 0


async def test_a_persona_is_found_by_name_behind_the_first_page(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    others = [{"persona_id": f"018f0000-0000-7000-8001-{number:012}", "name": f"P{number}"} for number in range(150)]
    platform.personas = [*others, PERSONAS[1]]
    platform.answer_with("Yes.")
    await bwenge("ask", "What is it?", "-p", "Keza", **as_learner)
    assert platform.asked[0]["persona_id"] == PERSONAS[1]["persona_id"]


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ([{"type": "error", "code": "rate_limited", "message": "Too many"}], "Too many (rate_limited)"),
        (
            [{"type": "error", "code": "rate_limited", "message": "Too many", "retry_after": 39}],
            "Too many (rate_limited); try again in 39 seconds",
        ),
        (
            [
                {"type": "delta", "text": "A"},
                {"type": "error", "code": "model_unavailable", "message": "It stopped", "turn_id": "1"},
                {"type": "turn_finished", "finish_reason": "error"},
            ],
            "It stopped (model_unavailable)",
        ),
        ([{"type": "delta", "text": "A"}], "The platform ended the conversation before the answer was complete."),
        ([{"type": "turn_finished", "finish_reason": "stop"}], "The platform ended the turn without an answer."),
    ],
)
async def test_an_answer_that_fails_ends_the_command_with_its_reason(
    bwenge: Command,
    platform: ScriptedPlatform,
    as_learner: dict[str, str],
    frames: list[dict[str, Any]],
    complaint: str,
) -> None:
    platform.frames = frames
    ended = await bwenge("ask", "What is it?", "-p", "Gabriel", **as_learner)
    assert (ended.code, ended.complaint) == (1, f"bwenge: {complaint}\n")


async def test_an_answer_that_does_not_come_is_not_waited_for_without_end(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.2)
    platform.stays_silent = True
    ended = await bwenge("ask", "What is it?", "-p", "Gabriel", **as_learner)
    assert (ended.code, ended.complaint) == (1, "bwenge: No answer came within 0.2 seconds.\n")


async def test_a_refused_conversation_tells_its_status(
    bwenge: Command, platform: ScriptedPlatform, as_learner: dict[str, str]
) -> None:
    platform.refusals["/ws/chat"] = JSONResponse({}, 429)
    ended = await bwenge("ask", "What is it?", "-p", "Gabriel", **as_learner)
    assert (ended.code, ended.complaint) == (1, "bwenge: The platform refused the conversation (429).\n")


async def test_an_empty_question_is_not_asked(bwenge: Command, platform: ScriptedPlatform) -> None:
    ended = await bwenge("ask", "  ", BWENGE_URL=platform.url, BWENGE_TOKEN="t")
    assert (ended.code, ended.complaint) == (1, "bwenge: The question is empty.\n")
