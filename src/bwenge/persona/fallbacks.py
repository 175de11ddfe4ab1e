"""What a persona says in its own words, in the languages of its learners."""

from typing import Final, Literal

Courtesy = Literal["greeting", "thanks", "farewell"]

DEFAULT_LANGUAGE: Final = "en"

_ABSTENTIONS: Final = {
    "en": (
        "The material I was given does not answer that. Try asking it in other words, or ask about another part of "
        "the material."
    ),
    "fr": (
        "Les documents que l'on m'a confiés ne répondent pas à cette question. Essayez de la poser autrement, ou "
        "interrogez-moi sur une autre partie du cours."
    ),
    "rw": (
        "Inyigisho nahawe ntizisubiza icyo kibazo. Gerageza kukibaza mu yandi magambo, cyangwa umbaze ku kindi gice "
        "cy'amasomo."
    ),
    "sw": (
        "Nyenzo nilizopewa hazijibu swali hilo. Jaribu kuliuliza kwa maneno mengine, au niulize kuhusu sehemu "
        "nyingine ya somo."
    ),
}
_COURTESIES: Final[dict[Courtesy, dict[str, str]]] = {
    "greeting": {
        "en": "Hello! I am {name}. Ask me anything about the material I was given.",
        "fr": "Bonjour ! Je suis {name}. Posez-moi vos questions sur les documents que l'on m'a confiés.",
        "rw": "Muraho! Nitwa {name}. Mbaza ikibazo icyo ari cyo cyose ku nyigisho nahawe.",
        "sw": "Habari! Mimi ni {name}. Niulize swali lolote kuhusu nyenzo nilizopewa.",
    },
    "thanks": {
        "en": "You are welcome! Ask me whenever you have another question.",
        "fr": "Avec plaisir ! Revenez vers moi dès que vous avez une autre question.",
        "rw": "Nawe urakoze! Niba ufite ikindi kibazo, kimbaze.",
        "sw": "Karibu sana! Ukiwa na swali lingine, niulize.",
    },
    "farewell": {
        "en": "Goodbye! Come back whenever you have a question.",
        "fr": "Au revoir ! Revenez dès que vous avez une question.",
        "rw": "Murabeho! Ugire ikibazo, uzagaruke umbaze.",
        "sw": "Kwaheri! Karibu tena ukiwa na swali.",
    },
}


def spoken_language(language: str, *, otherwise: str | None) -> str:
    """The first of the question's language, the persona's and English in which there are texts."""
    return next((known for known in (language, otherwise) if known in _ABSTENTIONS), DEFAULT_LANGUAGE)


def abstention(language: str) -> str:
    """What is said when the material does not hold the answer; `language` is one that `spoken_language` gave."""
    return _ABSTENTIONS[language]


def courtesy_answer(courtesy: Courtesy, language: str, *, name: str) -> str:
    return _COURTESIES[courtesy][language].format(name=name)
