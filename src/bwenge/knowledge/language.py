"""Which of the platform's languages a text is in."""

import functools
from typing import Final

from py3langid.langid import LanguageIdentifier

LANGUAGES: Final = ("en", "fr", "rw", "sw")
DEFAULT_LANGUAGE: Final = "en"

_SAMPLE_CHARACTERS: Final = 2_000


def detect_language(text: str) -> str:
    """ISO 639-1, one of `LANGUAGES`; English where there is nothing to go by.

    Loads the classifier on first use, which takes about a second: call it off the event loop.
    """
    sample = text[:_SAMPLE_CHARACTERS]
    if not any(character.isalpha() for character in sample):
        return DEFAULT_LANGUAGE
    language: str = _identifier().classify(sample)[0]
    return language


@functools.cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file("data/model.npz.xz")
    identifier.set_languages(list(LANGUAGES))
    return identifier
