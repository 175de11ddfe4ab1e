import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge.sentences import split_sentences


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Uwase met Mr. J. R. Smith.", "He paid 3.5 million.", "Was it fair?", "Yes!"],
        ["See fig. 3 and e.g. Mars.", "It is red, cf. p. 12 of vol. 2."],
        ["“Really?” she asked.", "“No.”", "He left (at last).", "Then it rained…", "And stopped."],
        ["M. Kagabo habite à Kigali.", "Il est né en 50 av. J.-C. et vit.", "Où est-il ?", "Ici."],
        ["Mme Uwera arrive.", "Voir chap. 2, art. 5.", "C’est tout."],
        ["Bw. Juma alienda na Dkt. Asha sokoni.", "Je, walinunua matunda, n.k. au la?", "Ndiyo."],
        ["Amazi ni ubuzima.", "Ese urabizi?", "Yego, Dr. Mugisha yabivuze."],
        ["He said no.", "Then the bus left at 5 p.m. sharp."],
    ],
)
def test_sentences_of_the_languages_spoken_here(expected: list[str]) -> None:
    assert sentences(" ".join(expected)) == expected


def test_blank_lines_and_list_items_end_sentences_without_a_mark() -> None:
    text = "What you need\n\n1. A pen. Blue or black\n2. Paper\n- glue\nand more"
    assert sentences(text) == ["What you need", "1. A pen.", "Blue or black", "2. Paper", "- glue\nand more"]


def test_marks_of_other_scripts_end_sentences() -> None:
    assert sentences("水は命です。本当ですか？はい。") == ["水は命です。", "本当ですか？", "はい。"]


def test_nothing_visible_gives_no_sentence() -> None:
    assert split_sentences(" \n\t ") == []


@given(st.text(alphabet=st.sampled_from("aB1 .!?\n()“”-é。"), max_size=80))
def test_spans_are_ordered_trimmed_and_cover_all_that_is_visible(text: str) -> None:
    spans = split_sentences(text)
    position = 0
    for start, end in spans:
        assert text[position:start].strip() == ""
        assert text[start:end] == text[start:end].strip() != ""
        position = end
    assert text[position:].strip() == ""


@pytest.mark.parametrize("unit", [".", " ", "\n ", ".)", "a. B ", '."', "\n- ", "1.\n"])
def test_the_time_grows_with_the_length_and_no_faster(unit: str) -> None:
    def seconds(count: int) -> float:
        text = unit * count
        started = time.process_time()
        split_sentences(text)
        return time.process_time() - started

    # Quadratic work would take 256 times as long for 16 times the text.
    assert seconds(160_000) < 64 * max(seconds(10_000), 0.002)
