"""Bytes to text, when nobody says which encoding they are in."""

import codecs
import re
from typing import Final

from charset_normalizer import from_bytes

SAMPLE_BYTES: Final = 64 * 1024

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # UTF-32's little-endian mark begins with UTF-16's, so it is looked for first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WHOLE_PER_BROKEN: Final = 10
_WESTERN: Final = "cp1252"
_COHERENCE_MARGIN: Final = 0.1
# Tab, line feed, vertical tab, form feed and carriage return occur in texts; ESC begins ISO-2022 and terminal colours.
_BINARY_CONTROLS: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def detect_encoding(sample: bytes) -> str | None:
    """The codec that reads `sample` as a text, or None when it is not one.

    The sample may end inside a character. It is judged by its byte order mark, then as UTF-8 (also with a few bytes
    damaged), then by charset-normalizer, and must hold no NUL and no other control character that texts do not use.
    """
    for mark, codec in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return codec if _is_text(sample, codec) else None
    if _is_text(sample, "utf-8"):
        return "utf-8"
    if b"\x00" in sample:
        return None
    if _is_damaged_utf8(sample):
        return "utf-8"
    guessed = _guess(sample)
    return guessed if guessed is not None and _is_text(sample, guessed) else None


def _guess(sample: bytes) -> str | None:
    """The likeliest legacy encoding, and Western European when that is as good.

    French is far commoner here than the languages of cp1250, which shares most of its bytes and is otherwise guessed
    for short texts.
    """
    matches = from_bytes(sample)
    best = matches.best()
    if best is None:
        return None
    for match in matches:
        is_as_good = match.chaos <= best.chaos and match.coherence >= best.coherence - _COHERENCE_MARGIN
        if is_as_good and _WESTERN in match.could_be_from_charset:
            return _WESTERN
    return best.encoding


def _is_damaged_utf8(sample: bytes) -> bool:
    """Far more whole characters beyond ASCII than broken ones: no other encoding looks so by chance."""
    text = sample.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    whole = sum(character > "\x7f" for character in text) - broken
    return whole >= _WHOLE_PER_BROKEN * broken and _BINARY_CONTROLS.search(text) is None


def _is_text(sample: bytes, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        text = decoder.decode(sample)
    except (UnicodeDecodeError, LookupError):
        return False
    return _BINARY_CONTROLS.search(text) is None


def decode(content: bytes) -> tuple[str, bool] | None:
    """The text and whether every byte was understood; None when the content is not a text."""
    codec = detect_encoding(content[:SAMPLE_BYTES])
    if codec is None:
        return None
    try:
        return content.decode(codec), True
    except UnicodeDecodeError:
        return content.decode(codec, errors="replace"), False
