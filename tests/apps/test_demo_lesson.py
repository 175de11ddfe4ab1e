"""The demo lesson: its PDF is made from its source, its pages are where they are said to be, its figures are right."""

from __future__ import annotations

import ast
import json
import operator
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import pypdfium2
import pytest

from tools.build_lesson import DEMO_DIR, OUTPUT, SOURCE, FigureError, build_pdf

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES: Final = 9
SIZE_LIMIT: Final = 150_000  # bytes, for the wheel carries the file

HEADING_PAGES: Final = {
    "1 Percentages": 1,
    "1.1 What a percentage means": 1,
    "1.2 Converting fractions, decimals and percentages": 1,
    "1.3 A percentage of a quantity": 2,
    "1.4 Percentage increase and decrease": 2,
    "1.5 Reverse percentage": 3,
    "2 Ratio and proportion": 3,
    "2.1 What a ratio means": 3,
    "2.2 Sharing in a ratio": 3,
    "2.3 Unit price": 4,
    "2.4 Direct and inverse proportion": 4,
    "3 Simple interest": 5,
    "3.1 The words of saving and borrowing": 5,
    "3.2 The formula for simple interest": 5,
    "3.3 Finding the rate or the time": 5,
    "4 Linear equations": 6,
    "4.1 What a linear equation is": 6,
    "4.2 The balance method": 6,
    "4.3 Word problems": 7,
    "5 Checking an answer": 7,
    "6 Common mistakes": 8,
    "7 Exercises": 8,
    "8 Answers to the exercises": 9,
    "Glossary": 9,
}

MARKDOWN: Final = SOURCE.read_text(encoding="utf-8")
QUESTIONS: Final[list[dict[str, Any]]] = json.loads((DEMO_DIR / "questions.json").read_text(encoding="utf-8"))
ANSWERED: Final = [entry for entry in QUESTIONS if entry["page"] is not None]

# The lesson's arithmetic in Python's signs.
ARITHMETIC: Final = (
    MARKDOWN.replace("\N{MULTIPLICATION SIGN}", "*").replace("\N{DIVISION SIGN}", "/").replace("\N{MINUS SIGN}", "-")
)
NUMBER: Final = r"\d[\d,]*(?:\.\d+)?"
CALCULATION: Final = re.compile(rf"(?<![\w.,])(\(?{NUMBER}(?:\)? [-*/+] \(?{NUMBER})+\)?) = ({NUMBER})(?![\dx])")
SIDE: Final = r"[\dx(][\dx,()]*(?: [+-] [\dx(][\dx,()]*)*"
EQUATION: Final = re.compile(rf"(?<![\w,])({SIDE}) = ({SIDE})")
SOLUTION: Final = re.compile(rf"\bx = ({NUMBER})")
OPERATIONS: Final[dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

# Each exercise worked out again from its own numbers, beside the words that its answer must hold.
EXERCISE_ANSWERS: Final[list[tuple[int, Fraction, str]]] = [
    (1, Fraction(7, 20) * 100, "is {}%"),
    (2, Fraction(15, 100) * 24_000, "is {} Frw"),
    (3, Fraction(920 - 800, 800) * 100, "is {}%"),
    (4, 16_000 * (1 - Fraction(25, 100)), "is {} Frw"),
    (5, 13_500 / (1 - Fraction(10, 100)), "was {} Frw"),
    (6, Fraction(24, 12), "is {} : 3"),
    (7, Fraction(60_000 * 7, 7 + 5), "Ineza gets {} Frw"),
    (7, Fraction(60_000 * 5, 7 + 5), "Jabo gets {} Frw"),
    (8, Fraction(9_000, 6), "= {} Frw; 11 kg"),
    (8, Fraction(9_000, 6) * 11, "= {} Frw."),
    (9, Fraction(8 * 9, 12), "need {} days"),
    (10, 200_000 * Fraction(5, 100) * 4, "is {} Frw"),
    (11, 120_000 * Fraction(10, 100) * Fraction(9, 12), "is {} Frw"),
    (12, 10_500 / (50_000 * Fraction(7, 100)), "for {} years"),
    (13, Fraction(37 - 9, 4), "x = {}."),
    (14, Fraction(19 + 5, 7 - 3), "x = {}."),
    (15, Fraction(30, 2) - 6, "x = {}."),
    (16, Fraction(2_950 - 400, 3), "costs {} Frw"),
    (17, Fraction(69_000 - 1_500 * 30, 2_500 - 1_500), "are {} adults"),
]


def value(expression: str, *, x: Fraction | None = None) -> Fraction:
    """The exact value of an expression such as `3,200x + 1,600(28 - x)`."""
    python = re.sub(r"(?<=[\d)])(?=[x(])", "*", expression.replace(",", ""))

    def of(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](of(node.left), of(node.right))
        if isinstance(node, ast.Name) and x is not None:
            return x
        return Fraction(ast.unparse(node))

    return of(ast.parse(python, mode="eval").body)


def section(title: str) -> str:
    return ARITHMETIC.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def numbered(title: str) -> dict[int, str]:
    return {int(number): text for number, text in re.findall(r"^(\d+)\. (.+)$", section(title), re.MULTILINE)}


def worked_equations() -> list[str]:
    """Each text that solves an equation: worked examples 13 to 17, and exercises 13 to 17 with their answers."""
    boxes = [box for box in ARITHMETIC.split("> **Worked example ")[1:] if int(box.split(":", 1)[0]) >= 13]
    examples = ["\n".join(line for line in box.splitlines() if line.startswith(">")) for box in boxes]
    exercises, answers = numbered("7 Exercises"), numbered("8 Answers to the exercises")
    return examples + [f"{exercises[number]} {answers[number]}" for number in range(13, 18)]


@pytest.fixture(scope="module")
def page_texts() -> list[str]:
    with pypdfium2.PdfDocument(OUTPUT) as document:
        return [page.get_textpage().get_text_bounded().replace("\r\n", "\n") for page in document]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_pdf_is_byte_for_byte_what_the_tool_makes_from_the_source() -> None:
    assert build_pdf(MARKDOWN) == OUTPUT.read_bytes()


def test_another_source_makes_another_pdf() -> None:
    assert build_pdf(MARKDOWN.replace("Keza", "Kaliza")) != OUTPUT.read_bytes()


def test_pdf_has_the_stated_number_of_pages(page_texts: list[str]) -> None:
    assert len(page_texts) == PAGES


def test_pdf_is_small_enough_to_ship() -> None:
    assert OUTPUT.stat().st_size < SIZE_LIMIT


@pytest.mark.parametrize("number", range(1, PAGES + 1))
def test_page_ends_with_its_printed_number(number: int, page_texts: list[str]) -> None:
    assert page_texts[number - 1].splitlines()[-1].endswith(f" Page {number}")


@pytest.mark.parametrize(("heading", "page"), HEADING_PAGES.items())
def test_heading_is_a_line_of_its_page(heading: str, page: int, page_texts: list[str]) -> None:
    assert heading in page_texts[page - 1].splitlines()


def test_outline_names_every_heading_with_its_page() -> None:
    with pypdfium2.PdfDocument(OUTPUT) as document:
        outline = {}
        for bookmark in document.get_toc():
            outline[bookmark.get_title()] = bookmark.get_dest().get_index() + 1
    assert outline == HEADING_PAGES


def test_stated_headings_are_those_of_the_source() -> None:
    assert re.findall(r"^##+ (.+)$", MARKDOWN, re.MULTILINE) == list(HEADING_PAGES)


def test_every_paragraph_of_the_source_extracts_from_the_pdf(page_texts: list[str]) -> None:
    everything = flat(" ".join("\n".join(text.splitlines()[:-1]) for text in page_texts))
    prose = [line.lstrip("> ").replace("**", "") for line in MARKDOWN.splitlines() if line[:1] not in ("|", "`", "#")]
    lines = [re.sub(r"^(- |(inside|below|shaded|left|right|caption): )", "", line) for line in prose]
    missing = [line for line in lines if line and " | " not in line and flat(line) not in everything]
    assert missing == []


def test_ten_questions_have_a_page_and_two_have_none() -> None:
    assert (len(ANSWERED), len(QUESTIONS)) == (10, 12)


@pytest.mark.parametrize("entry", ANSWERED, ids=lambda entry: entry["question"])
def test_answer_stands_on_its_page_and_on_no_other(entry: dict[str, Any], page_texts: list[str]) -> None:
    pages = [number for number, text in enumerate(page_texts, 1) if entry["phrase"] in flat(text)]
    assert pages == [entry["page"]]


def test_unanswered_questions_have_no_phrase() -> None:
    assert [entry["phrase"] for entry in QUESTIONS if entry["page"] is None] == [None, None]


def test_every_calculation_is_right() -> None:
    calculations = CALCULATION.findall(ARITHMETIC)
    assert [pair for pair in calculations if value(pair[0]) != value(pair[1])] == []
    assert len(calculations) > 40


@pytest.mark.parametrize("text", worked_equations())
def test_solution_satisfies_every_step_of_its_equation(text: str) -> None:
    (solution,) = set(SOLUTION.findall(text))
    steps = [pair for pair in EQUATION.findall(text) if "x" in pair[0]]
    assert len(steps) >= 2
    assert [step for step in steps if value(step[0], x=value(solution)) != value(step[1], x=value(solution))] == []


@pytest.mark.parametrize(("number", "result", "words"), EXERCISE_ANSWERS)
def test_printed_answer_is_the_result_of_the_exercise(number: int, result: Fraction, words: str) -> None:
    assert result.denominator == 1
    assert words.format(f"{result.numerator:,}") in numbered("8 Answers to the exercises")[number]


def test_every_exercise_has_an_answer() -> None:
    assert numbered("7 Exercises").keys() == numbered("8 Answers to the exercises").keys()


def test_table_rows_are_equal_as_fraction_decimal_and_percentage() -> None:
    rows = re.findall(r"^\| (\d+/\d+) \| ([\d.]+) \| ([\d.]+)% \|$", MARKDOWN, re.MULTILINE)
    assert [row for row in rows if not Fraction(row[0]) == Fraction(row[1]) == Fraction(row[2]) / 100] == []
    assert len(rows) == 6


def test_percentages_stated_in_sentences_are_right() -> None:
    parts = re.findall(rf"(\d+)% of ({NUMBER}) Frw,? (?:which )?is ({NUMBER}) Frw", MARKDOWN)
    changes = re.findall(rf"({NUMBER}) Frw (increased|decreased) by (\d+)% is ({NUMBER}) Frw", MARKDOWN)
    assert [part for part in parts if value(part[1]) * int(part[0]) / 100 != value(part[2])] == []
    for before, direction, rate, after in changes:
        sign = 1 if direction == "increased" else -1
        assert value(before) * (100 + sign * int(rate)) / 100 == value(after)
    assert (len(parts), len(changes)) == (2, 2)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("```figure pie\ncaption: A pie.\n```", "no such figure: 'figure pie'"),
        ("```figure balance\nleft: x\ncaption: One pan.\n```", "figure balance lacks its line 'right'"),
    ],
)
def test_figure_that_cannot_be_drawn_stops_the_build(block: str, reason: str) -> None:
    with pytest.raises(FigureError, match=re.escape(reason)):
        build_pdf(f"# Title\n\n{block}\n")
