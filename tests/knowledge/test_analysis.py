"""From text to terms: a learner's spelling, case and inflection do not decide what is found."""

import asyncio
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.knowledge.analysis import MAX_TERM_CHARACTERS, analyse, analyse_query, fold

LANGUAGES = ("en", "fr", "rw", "sw")


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Élève", "eleve"),
        ("ÉCOLE", "ecole"),
        ("naïve cœur", "naive cœur"),
        ("Straße", "strasse"),
        ("ﬁgure", "figure"),
        ("x²", "x2"),
        ("½", "1⁄2"),
        ("ＡＢＣ", "abc"),
        ("𝐼 = 𝑃𝑅𝑇", "i = prt"),
    ],
)
def test_case_diacritics_and_forms_of_a_letter_are_folded(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_how_a_text_is_composed_does_not_matter(text: str) -> None:
    assert analyse(unicodedata.normalize("NFD", text), "fr") == analyse(unicodedata.normalize("NFC", text), "fr")


@pytest.mark.parametrize(
    ("language", "sentence", "terms"),
    [
        ("en", "What is the formula for simple interest?", ["formula", "simpl", "interest"]),
        ("fr", "Quelle est la formule de l'intérêt simple ?", ["formul", "interet", "simpl"]),
        ("rw", "Ubutaka ni iki?", ["ubutaka"]),
        ("sw", "Uzito wa maji ni nini?", ["uzito", "maji", "nini"]),
    ],
)
def test_a_sentence_becomes_its_content_words(language: str, sentence: str, terms: list[str]) -> None:
    assert analyse(sentence, language) == terms


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("en", ["percentage", "percentages"]),
        ("en", ["multiply", "multiplied", "multiplies"]),
        ("fr", ["équation", "équations", "EQUATIONS"]),
        ("fr", ["national", "nationale", "nationales"]),
    ],
)
def test_forms_of_a_word_are_one_term(language: str, forms: list[str]) -> None:
    assert len({tuple(analyse(form, language)) for form in forms}) == 1


def test_a_language_without_a_stemmer_keeps_its_words_whole() -> None:
    assert analyse("abanyeshuri umunyeshuri", "rw") == ["abanyeshuri", "umunyeshuri"]


def test_repeated_words_stay_repeated_and_in_order() -> None:
    assert analyse("ratio rate ratio", "en") == ["ratio", "rate", "ratio"]


def test_numbers_are_terms() -> None:
    assert analyse("In 1994, 3 of 10", "rw") == ["in", "1994", "3", "of", "10"]


def test_underscores_and_signs_separate_words() -> None:
    assert analyse("snake_case x=z (2+2)", "rw") == ["snake", "case", "x", "z", "2", "2"]


def test_what_is_too_long_to_be_a_word_is_no_term() -> None:
    assert analyse("a" * (MAX_TERM_CHARACTERS + 1) + " " + "b" * MAX_TERM_CHARACTERS, "rw") == ["b" * 64]


def test_an_unknown_language_is_neither_stripped_nor_stemmed() -> None:
    assert analyse("the percentages", "xx") == ["the", "percentages"]


def asked(text: str, language: str, *, main: str = "", others: str = "") -> dict[str, str]:
    return analyse_query(
        text, language=language, main_languages=frozenset(main.split()), languages=frozenset(others.split())
    )


@given(st.text(max_size=200), st.sampled_from(LANGUAGES))
def test_a_text_is_found_by_each_of_its_own_words(text: str, language: str) -> None:
    assert analyse_query(text, language=language, main_languages={language}, languages={language}).keys() == set(
        analyse(text, language)
    )


@given(st.text(max_size=200), st.sampled_from(LANGUAGES), st.sets(st.sampled_from(LANGUAGES)))
def test_whatever_is_asked_for_may_be_indexed_in_one_of_the_languages(
    text: str, language: str, languages: set[str]
) -> None:
    forms = analyse_query(text, language=language, main_languages=set(), languages=languages)
    assert forms.keys() <= {form for other in languages | {language} for form in analyse(text, other)}
    assert set(forms.values()) <= set(analyse(text, language))


def test_a_question_asks_for_the_forms_of_all_languages_that_passages_are_in() -> None:
    assert asked("interest rates", "en", main="en", others="en fr rw") == {
        "interest": "interest",
        "rate": "rate",
        "rat": "rate",
        "rates": "rate",
    }


def test_words_that_say_nothing_in_the_questions_language_are_asked_for_in_none() -> None:
    assert asked("what is the rate", "en", main="en", others="rw").keys() == {"rate"}


def test_words_that_say_nothing_in_a_sources_language_are_not_asked_for_in_that_of_stray_passages() -> None:
    assert asked("what is the rate", "rw", main="en", others="en rw").keys() == {"rate"}


def test_a_word_that_says_nothing_in_one_sources_language_is_asked_for_in_that_of_another() -> None:
    assert "ai" in asked("what is AI", "en", main="en fr", others="en fr")


async def test_threads_that_stem_at_once_do_not_disturb_each_other() -> None:
    words = [f"percentages equations multiplied {number}" for number in range(200)]
    expected = [analyse(text, "en") for text in words]
    found = await asyncio.gather(*(asyncio.to_thread(analyse, text, "en") for text in words))
    assert found == expected
