"""Characters that documents carry and readers do not want."""

import re
import unicodedata
from collections.abc import Iterator

PDFIUM_HYPHEN = "\ufffe"
"""PDFium puts this noncharacter where a word was hyphenated at a line's end."""

_LIGATURES = {
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st",
}  # fmt: skip
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
# The bullets of the Symbol and Wingdings fonts, which writers map to the private use area.
_BULLETS = {"\uf0b7": "\u2022", "\uf0a7": "\u2022", "\uf0d8": "\u2022", "\uf076": "\u2022", "\uf0fc": "\u2022"}
_LINE_BREAKS = {"\u2028": "\n", "\u2029": "\n", "\u0085": "\n", "\x0b": "\n", "\x0c": "\n"}

_REPLACEMENTS = {**_LIGATURES, **dict.fromkeys(_SPACES, " "), **_BULLETS, **_LINE_BREAKS}
# Controls, soft hyphens, zero-width spaces, direction marks, byte order marks, noncharacters and lone surrogates:
# PostgreSQL refuses the first and the last, and a search for a word misses it when one of the others sits inside.
_UNWANTED = (
    "\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\u00ad\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u2069"
    "\\ufeff\\ufdd0-\\ufdef\\ufffe\\uffff\\ud800-\\udfff"
)
_SPECIAL = re.compile(f"[{_UNWANTED}{''.join(_REPLACEMENTS)}]")
_RUNS_OF_BLANKS = re.compile(r"[ \t]+")


def clean(text: str) -> str:
    """NFC, line feeds only, ligatures spelt out, and none of the characters that break storage or search."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return _SPECIAL.sub(_replacement, text)


def _replacement(match: re.Match[str]) -> str:
    return _REPLACEMENTS.get(match[0], "")


def collapse(text: str) -> str:
    """Each line without runs of blanks, and no blank at either end."""
    return "\n".join(_RUNS_OF_BLANKS.sub(" ", line).strip() for line in text.split("\n")).strip()


def split_long(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` characters, cut at whitespace where there is some; blank pieces are left out."""
    start = 0
    while len(text) - start > limit:
        cut = max(text.rfind(" ", start, start + limit), text.rfind("\n", start, start + limit))
        end = cut if cut > start else start + limit
        if piece := text[start:end].strip():
            yield piece
        start = end
    if piece := text[start:].strip():
        yield piece
