"""The main job on a real textbook of 199 pages: true progress, and answers cited on the right page."""

from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.conftest import CORPUS
from tests.support.platform import Caller

pytestmark = pytest.mark.corpus

BOOK: Final = CORPUS / "book" / "college.pdf"
PAGES: Final = 199

# Question, the pages that answer it (a few passages stand twice in this book), and words that the answer must hold.
QUESTIONS: Final = (
    ("Who devised the Cornell Method of taking notes?", {170}, "Pauk"),
    ("What makes my credit score go down?", {85}, "30 percent"),
    ("What does the acronym SMART stand for in goals?", {144}, "Specific, Measurable, Attainable"),
    ("What does the pineal gland do?", {75}, "fall asleep"),
    ("What is the FAFSA?", {94}, "Free Application for Federal Student Aid"),
    ("What does cost of attendance refer to?", {111}, "total amount of estimated costs"),
    ("What is collective identity?", {196}, "common cause or belief"),
    ("What share of college students have felt very lonely?", {46}, "63"),
    ("What percent of daily calories does the average American eat from processed foods?", {73}, "62 percent"),
    ("How much material do students forget within two days after taking notes?", {169}, "60–75 percent"),
    ("What is the Public Service Loan Forgiveness program?", {93}, "nonprofit or government"),
    ("What is the difference between health and wellness?", {57}, "making choices|become aware of"),
)
UNANSWERED: Final = (
    "What is the boiling point of mercury?",
    "Who won the 2018 football World Cup?",
    "How do I change the oil in a car?",
)


@dataclass(frozen=True)
class Textbook:
    caller: Caller
    persona_id: str
    source_id: str
    statuses: list[dict[str, Any]]


@pytest.fixture(scope="module")
def textbook(owner: Caller) -> Textbook:
    persona_id = owner.create_persona()
    accepted = owner.upload(persona_id, BOOK)
    assert accepted.status_code == 202
    source_id = accepted.json()["source_id"]
    return Textbook(owner, persona_id, source_id, list(owner.statuses(source_id, seconds=280)))


def pages_cited(answer: dict[str, Any]) -> set[int]:
    return {citation["locator"]["page"] for citation in answer["citations"]}


def test_the_book_goes_from_pending_by_processing_to_ready(textbook: Textbook) -> None:
    seen = list(dict.fromkeys(status["status"] for status in textbook.statuses))
    assert seen in (["pending", "processing", "ready"], ["processing", "ready"])
    assert textbook.statuses[-1]["page_count"] == PAGES
    assert textbook.statuses[-1]["warnings"] == []


def test_progress_rises_and_keyword_search_comes_before_full_search(textbook: Textbook) -> None:
    progress = [status["progress"] for status in textbook.statuses]
    assert progress == sorted(progress)
    assert len(set(progress)) > 5
    assert list(dict.fromkeys(status["searchable"] for status in textbook.statuses)) == ["none", "keyword", "full"]


@pytest.mark.parametrize(("question", "pages", "words"), QUESTIONS)
def test_a_question_is_answered_with_a_citation_on_the_right_page(
    textbook: Textbook, question: str, pages: set[int], words: str
) -> None:
    answer = textbook.caller.ask(textbook.persona_id, question)
    assert answer["grounded"]
    assert pages & pages_cited(answer)
    assert any(wanted in answer["response_text"] for wanted in words.split("|"))


@pytest.mark.parametrize("question", UNANSWERED)
def test_what_the_book_does_not_hold_is_not_answered(textbook: Textbook, question: str) -> None:
    answer = textbook.caller.ask(textbook.persona_id, question)
    assert (answer["grounded"], answer["citations"]) == (False, [])


def test_the_address_of_a_citation_opens_the_book_without_a_login(textbook: Textbook) -> None:
    citation = textbook.caller.ask(textbook.persona_id, QUESTIONS[0][0])["citations"][0]
    address, _, fragment = citation["source_url"].partition("#")
    assert fragment == f"page={citation['locator']['page']}"
    opened = textbook.caller.http.get(address, headers={"Authorization": "", "Range": "bytes=0-7"})
    assert (opened.status_code, opened.content[:5]) == (206, b"%PDF-")
