"""What people see of a short text, such as a name, by Unicode's categories."""

import unicodedata
from typing import Final

_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Letters by category, and ignorable by default (DerivedCoreProperties.txt): the fillers of Hangul.
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
# Symbols by category that are blank: the Braille pattern without dots, the null note head.
_BLANKS: Final = frozenset("\u2800\U0001d159")


def is_visible(text: str) -> bool:
    """Whether it holds a letter, digit, symbol or punctuation mark that shows; joiners and marks alone do not."""
    return any(unicodedata.category(char)[0] in "LNPS" and char not in _FILLERS | _BLANKS for char in text)


def holds_controls(text: str) -> bool:
    """Whether it holds a control character, a line's or paragraph's end, or what reorders the text around it."""
    return any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} or char in _BIDI_CONTROLS for char in text)
