from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge.locators import PlaceStart
from bwenge.persona.statements import LONGEST_SENTENCE, Kind, classify, sentences_of
from tests.support.personas import PHOTOSYNTHESIS, hit


@pytest.mark.parametrize(
    "text",
    [
        "Plants make sugar from light.",
        "3. Plants make sugar from light.",
        "The stages are as follows:",
        "Ibimera bikora isukari bikoresheje urumuri.",
        "so then we look at the leaf and we see that it is green because of chlorophyll right",
    ],
)
def test_a_sentence_that_says_something_is_a_statement(text: str) -> None:
    assert classify(text) is Kind.STATEMENT


@pytest.mark.parametrize("text", ["keep your notes short and clear", "182 room, or in the classroom of the school."])
def test_a_bullet_or_the_rest_of_a_sentence_is_a_fragment(text: str) -> None:
    assert classify(text) is Kind.FRAGMENT


@pytest.mark.parametrize(
    "text",
    [
        "What is photosynthesis and where does it happen?",
        "« Où se trouve la chlorophylle ? »",
        "4. Explain the two stages of photosynthesis.",
        "Define the word chlorophyll in one sentence.",
        "Décrivez le rôle de la feuille dans la plante.",
        "Sobanura akamaro k'ibibabi ku kimera.",
        "Eleza umuhimu wa majani katika mmea.",
        "The plant makes ________ from light and water.",
        "Chapter 3 Managing Your Time and Priorities 57",
        "Managing Your Time and Priorities ........ 57",
        "Managing Your Time and Priorities",
        "## managing time is a skill that grows",
        "Figure 3.2",
        "12 34 56 78 90 12 34",
    ],
)
def test_questions_exercises_headings_and_contents_are_unfit(text: str) -> None:
    assert classify(text) is Kind.UNFIT


def test_the_verbs_of_exercises_may_begin_a_statement() -> None:
    assert classify("State power grew under the kings of Rwanda.") is Kind.STATEMENT


def test_sentences_come_with_their_place_and_kind() -> None:
    sentences = sentences_of([hit(PHOTOSYNTHESIS), hit("Roots drink water from the soil.")])
    assert [(sentence.hit, sentence.position, sentence.kind) for sentence in sentences] == [
        (0, 0, Kind.UNFIT),
        (0, 1, Kind.STATEMENT),
        (0, 2, Kind.STATEMENT),
        (0, 3, Kind.UNFIT),
        (0, 4, Kind.UNFIT),
        (1, 0, Kind.STATEMENT),
    ]


def test_line_breaks_and_bullets_are_taken_out_and_references_kept_as_no_markers() -> None:
    (sentence,) = sentences_of([hit("• Leaves are\ngreen [12] because of\nchlorophyll [3].")])
    assert sentence.text == "Leaves are green \uff3b12\uff3d because of chlorophyll \uff3b3\uff3d."


def test_a_sentence_of_two_overlapping_chunks_is_kept_once() -> None:
    sentences = sentences_of([hit("Roots drink water. Leaves make sugar."), hit("Leaves make sugar. Stems hold up.")])
    assert [sentence.text for sentence in sentences] == [
        "Roots drink water.",
        "Leaves make sugar.",
        "Stems hold up.",
    ]


@given(st.text(alphabet="ab ", min_size=1, max_size=3000))
def test_a_run_without_full_stops_is_cut_into_pieces_that_hold_all_of_it(text: str) -> None:
    pieces = [sentence.text for sentence in sentences_of([hit(text)])]
    assert all(0 < len(piece) <= LONGEST_SENTENCE for piece in pieces)
    assert set("".join(pieces).split()) <= set(text.split()) or len(text) > LONGEST_SENTENCE


def test_bracketed_numbers_of_the_material_stay_readable_and_are_no_markers() -> None:
    [sentence] = sentences_of([hit("A probability always lies in the closed interval [0, 1] of numbers.")])
    assert sentence.text == "A probability always lies in the closed interval \uff3b0, 1\uff3d of numbers."


def test_the_headings_of_all_sections_that_share_a_chunk_are_unfit() -> None:
    first, second = "Rules > Opening hours", "Rules > things that every learner pays for"
    text = "Opening hours\n\nThe library opens at eight.\n\nthings that every learner pays for\n\nA term costs a lot."
    starts = PlaceStart(0, None, first), PlaceStart(text.index("things"), None, second)
    shared = replace(hit(text), locator={"heading": first}, place_starts=starts)
    unfit = [sentence.text for sentence in sentences_of([shared]) if sentence.kind is Kind.UNFIT]
    assert unfit == ["Opening hours", "things that every learner pays for"]
