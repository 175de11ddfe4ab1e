import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.persona.lexical import QuestionTerms, content_terms, fold, name_terms


def test_folding_takes_case_and_accents_off() -> None:
    assert fold("Élève ÉMU, Straße") == "eleve emu, strasse"


@pytest.mark.parametrize(
    ("question", "language", "terms"),
    [
        ("How do the plants make their food?", "en", ["plant", "make", "food"]),
        ("Quelles sont les capitales de l'Afrique ?", "fr", ["capital", "afriqu"]),
        ("Umurwa mukuru w'u Rwanda ni uwuhe?", "rw", ["umurwa", "mukuru", "rwanda"]),
        ("Mji mkuu wa Kenya ni upi?", "sw", ["mji", "mkuu", "kenya"]),
        ("Why?", "en", []),
        ("7 + 8", "en", ["7", "8"]),
    ],
)
def test_only_words_with_a_meaning_are_terms(question: str, language: str, terms: list[str]) -> None:
    assert [term for term in content_terms(question, language) if term != "ni"] == terms


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Who was Habyarimana in 1990?", ["habyarimana", "1990"]),
        ("Photosynthesis is what? Leaves are what?", []),
        ("Combien d'habitants a l'Algérie ?", ["algerie"]),
        ("WHO WAS KAGAME?", []),
        ("who was kagame?", []),
    ],
)
def test_names_are_capitals_inside_a_sentence_and_numbers(text: str, names: list[str]) -> None:
    assert name_terms(text, "") == names


def test_coverage_is_the_share_of_the_weight_that_is_held() -> None:
    weighed = QuestionTerms(["leaf", "sugar"], [{"leaf", "green"}, {"sugar"}, {"root"}])
    assert weighed.coverage({"leaf", "sugar", "more"}) == pytest.approx(1.0)
    assert weighed.coverage({"leaf"}) == pytest.approx(0.5)
    assert weighed.coverage(frozenset()) == 0.0


def test_a_rare_word_weighs_more_than_a_frequent_one() -> None:
    weighed = QuestionTerms(["plant", "xylem"], [{"plant"}, {"plant", "xylem"}, {"plant"}])
    assert weighed.coverage({"xylem"}) > weighed.coverage({"plant"})


def test_a_word_that_no_passage_holds_lowers_every_coverage() -> None:
    passages: list[set[str]] = [{"plant"}, {"root"}]
    alone = QuestionTerms(["plant"], passages).coverage({"plant"})
    assert QuestionTerms(["plant", "volcano"], passages).coverage({"plant"}) < alone


def test_a_misspelt_word_is_found_with_less_credit() -> None:
    weighed = QuestionTerms(["fotosynthesis"], [{"photosynthesis"}, {"root"}])
    assert 0.5 < weighed.coverage({"photosynthesis"}) < 1.0


def test_words_that_only_look_alike_a_little_are_not_confused() -> None:
    assert QuestionTerms(["competition"], [{"composition"}]).coverage({"composition"}) == 0.0


def test_a_question_without_a_meaning_word_is_covered_by_nothing() -> None:
    assert QuestionTerms([], [{"plant"}]).coverage({"plant"}) == 0.0


@given(
    question=st.lists(st.text(alphabet="abc", min_size=1, max_size=7)),
    passages=st.lists(st.frozensets(st.text(alphabet="abc", min_size=1, max_size=7)), min_size=1),
)
def test_coverage_lies_between_none_and_all(question: list[str], passages: list[frozenset[str]]) -> None:
    weighed = QuestionTerms(question, passages)
    assert all(0.0 <= weighed.coverage(passage) <= 1.0 + 1e-9 for passage in passages)
