import pytest

from bwenge.persona.contract import HistoryMessage
from bwenge.persona.fallbacks import abstention, courtesy_answer, spoken_language
from bwenge.persona.questions import LONGEST_SEARCHED, courtesy_of, leans_on_history, search_texts

ASKED = (
    HistoryMessage("user", "Who discovered penicillin in London?"),
    HistoryMessage("assistant", "Alexander Fleming did. [1]"),
)


@pytest.mark.parametrize(
    ("message", "courtesy"),
    [
        ("Hello!", ("greeting", "en")),
        ("Good morning, teacher", ("greeting", "en")),
        ("hi Keza, how are you?", ("greeting", "en")),
        ("Bonjour Madame", ("greeting", "fr")),
        ("Comment ça va ?", ("greeting", "fr")),
        ("Muraho!", ("greeting", "rw")),
        ("Mwaramutse mwarimu", ("greeting", "rw")),
        ("Habari za asubuhi, mwalimu?", ("greeting", "sw")),
        ("Who are you?", ("greeting", "en")),
        ("Hello! What can you teach me?", ("greeting", "en")),
        ("Comment t'appelles-tu ?", ("greeting", "fr")),
        ("Uri nde?", ("greeting", "rw")),
        ("Wewe ni nani?", ("greeting", "sw")),
        ("Thank you very much!", ("thanks", "en")),
        ("Murakoze cyane", ("thanks", "rw")),
        ("Kwaheri", ("farewell", "sw")),
        ("Au revoir, merci beaucoup", ("farewell", "fr")),
    ],
)
def test_a_message_that_is_only_a_courtesy_is_one(message: str, courtesy: tuple[str, str]) -> None:
    assert courtesy_of(message, persona_name="Mwalimu Keza") == courtesy


@pytest.mark.parametrize(
    "message",
    [
        "Hello, what is photosynthesis?",
        "What does muraho mean?",
        "hi hi hi hi hi hi hi hi hi",
        "teacher",
        "?!",
        "",
        "Good morning is said at what time?",
        "Who are you in the story?",
        "What can you do with a fraction?",
    ],
)
def test_a_message_that_says_more_is_a_question(message: str) -> None:
    assert courtesy_of(message, persona_name="Mwalimu Keza") is None


@pytest.mark.parametrize(
    "question", ["Why?", "Who wrote it?", "Tell me more", "Give me an example", "Et pourquoi cela ?", "Kwa nini hivyo?"]
)
def test_a_question_that_means_nothing_alone_leans_on_history(question: str) -> None:
    assert leans_on_history(question)


@pytest.mark.parametrize(
    "question",
    ["What is a quokka?", "Who discovered penicillin?", "Why is it important to sleep enough before exams?"],
)
def test_a_question_with_a_subject_of_its_own_does_not(question: str) -> None:
    assert not leans_on_history(question)


def test_a_leaning_question_is_searched_with_the_last_one_that_did_not_lean() -> None:
    history = (*ASKED, HistoryMessage("user", "And why?"), HistoryMessage("assistant", "By chance. [1]"))
    assert search_texts("When was that?", history) == (
        "Who discovered penicillin in London?\nWhen was that?",
        "When was that?",
    )


def test_a_plain_question_is_searched_alone() -> None:
    assert search_texts("What is chlorophyll?", ASKED) == ("What is chlorophyll?",)


def test_a_leaning_question_without_history_is_searched_as_it_is() -> None:
    assert search_texts("Why?", ()) == ("Why?",)


@pytest.mark.parametrize("language", ["en", "fr", "rw", "sw"])
def test_every_language_has_its_own_texts(language: str) -> None:
    others = {"en", "fr", "rw", "sw"} - {language}
    assert spoken_language(language, otherwise="en") == language
    assert abstention(language) not in {abstention(other) for other in others}
    assert "Keza" in courtesy_answer("greeting", language, name="Keza")


def test_a_language_without_texts_gets_those_of_the_persona_then_english() -> None:
    assert spoken_language("de", otherwise="rw") == "rw"
    assert spoken_language("de", otherwise=None) == "en"


def test_of_a_very_long_message_only_the_beginning_is_searched_for() -> None:
    essay = "Photosynthesis turns light into sugar. " * 800
    assert search_texts(essay, ()) == (essay[:LONGEST_SEARCHED],)
    together, alone = search_texts("Why?", (HistoryMessage("user", essay), HistoryMessage("assistant", "Yes. [1]")))
    assert (together, alone) == (f"{essay[:LONGEST_SEARCHED]}\nWhy?", "Why?")
