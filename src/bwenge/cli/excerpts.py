"""The part of a passage that a reader wants to see beside an answer."""

import re
import textwrap
from typing import Final

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_WORD: Final = re.compile(r"\w+")


def excerpt(passage: str, answer: str, *, most: int) -> str:
    """The passage from its sentence on that shares most words with the answer, in at most `most` characters."""
    sentences = _SENTENCE.split(" ".join(passage.split()))
    said = set(_words(answer))
    best = max(range(len(sentences)), key=lambda index: (len(said.intersection(_words(sentences[index]))), -index))
    shown = " ".join(sentences[best:])
    return textwrap.shorten(shown if best == 0 else f"… {shown}", most, placeholder=" …")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
