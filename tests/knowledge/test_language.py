"""The four languages of the platform, on ordinary sentences of its classrooms."""

import pytest

from bwenge.knowledge.language import DEFAULT_LANGUAGE, LANGUAGES, detect_language

SENTENCES = {
    "en": [
        "What is the formula for simple interest?",
        "Photosynthesis turns light, water and carbon dioxide into sugar.",
        "How do I share an amount of money in a ratio?",
    ],
    "fr": [
        "Quelle est la formule de l'intérêt simple ?",
        "La photosynthèse transforme la lumière et l'eau en sucre.",
        "Comment partager une somme d'argent selon un rapport ?",
    ],
    "rw": [
        "Ni gute babara inyungu yoroshye?",
        "Ibimera bikoresha urumuri rw'izuba n'amazi kugira ngo bikore isukari.",
        "Abanyeshuri bagomba kwiga imibare buri munsi.",
    ],
    "sw": [
        "Fomula ya riba rahisi ni ipi?",
        "Mimea hutumia mwanga wa jua na maji kutengeneza sukari.",
        "Wanafunzi wanapaswa kujifunza hisabati kila siku.",
    ],
}


@pytest.mark.parametrize(
    ("language", "sentence"), [(language, text) for language, texts in SENTENCES.items() for text in texts]
)
def test_an_ordinary_sentence_is_in_its_language(language: str, sentence: str) -> None:
    assert detect_language(sentence) == language


@pytest.mark.parametrize("text", ["", "   ", "1234", "3 + 4 = 7", "?!…", "²½"])
def test_where_there_is_nothing_to_go_by_it_is_english(text: str) -> None:
    assert detect_language(text) == DEFAULT_LANGUAGE


@pytest.mark.parametrize("text", ["Привет, как дела?", "数学は楽しいです", "مرحبا"])
def test_any_other_language_is_taken_for_one_of_the_four(text: str) -> None:
    assert detect_language(text) in LANGUAGES


def test_a_long_text_is_judged_by_its_beginning() -> None:
    beginning = " ".join(SENTENCES["fr"] * 20)[:2000]
    assert detect_language(beginning + " ".join(SENTENCES["en"] * 200)) == "fr"
