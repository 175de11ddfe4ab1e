"""The lines of a PDF's pages with what their layout tells, at about the cost of the text alone."""

import ctypes
import re
import sys
from dataclasses import dataclass

import pypdfium2.raw as pdfium
from pypdfium2 import PdfDocument, PdfiumError, PdfPage, PdfTextPage

_SURROGATE = re.compile("[\ud800-\udfff]")
_BOLD_WEIGHT = 600
_MAX_BOLD_LINE = 70
_FONT_NAME_BYTES = 128
# At these a line's last character tells its size: a digit there may be a raised one.
_SIZED_LIKE_TEXT = frozenset(".,;:!?-")
# A line that ends so is no heading, and its weight is not asked for.
_ENDS_TEXT = (".", ",", ";", "-")


@dataclass(slots=True)
class Line:
    """One line as PDFium reads it, in the order of the page's content.

    Attributes:
        left: Of the first character, in points; `right` is of the last.
        bottom: Of the first character, in points from the foot of the page.
        last_bottom: Of the last character: it differs where PDFium joined lines at a hyphen.
        size: Height of the font's box, in points; comparable within a document.
        depth: Height of the line's middle on the page, 0.0 at the foot to 1.0 at the top.
        bold: Known only for lines that it could make a heading: short, and not ending as text does.
    """

    text: str
    page: int
    left: float
    right: float
    bottom: float
    last_bottom: float
    size: float
    depth: float
    bold: bool


def read_page(document: PdfDocument, index: int) -> list[Line]:
    """The lines of the page at `index` (from 0) that hold something visible.

    Raises:
        PdfiumError: The page cannot be read.
    """
    page: PdfPage = document[index]
    try:
        textpage: PdfTextPage = page.get_textpage()
        try:
            return _lines(textpage, page, number=index + 1)
        finally:
            textpage.close()
    finally:
        page.close()


def _lines(textpage: PdfTextPage, page: PdfPage, *, number: int) -> list[Line]:
    box = page.get_bbox()
    foot, height = box[1], max(box[3] - box[1], 1.0)
    geometry = _Geometry(textpage.raw)
    lines: list[Line] = []
    position = 0
    characters = _characters(textpage)
    has_surrogates = not characters.isascii() and _SURROGATE.search(characters) is not None
    for text in characters.split("\r\n"):
        if visible := text.rstrip("\x00 \t"):
            first = position + len(text) - len(text.lstrip("\x00 \t"))
            lines.append(geometry.line(visible, first, position + len(visible) - 1, number=number))
            if has_surrogates:
                lines[-1].text = _paired(visible)
            lines[-1].depth = (lines[-1].bottom + lines[-1].size / 2 - foot) / height
        position += len(text) + 2
    return lines


def _characters(textpage: PdfTextPage) -> str:
    """A page's text in which every character stands at its index in PDFium's list of characters.

    That list counts UTF-16 units, so the letters of mathematics and emoji stand here as two surrogates each; and
    `FPDFText_GetText` skips some of it, so about one page in thirty is read character by character.
    """
    count = textpage.count_chars()
    if count == 0:
        return ""
    buffer = (ctypes.c_ushort * (count + 1))()
    written = pdfium.FPDFText_GetText(textpage.raw, 0, count, buffer)
    if written == count + 1:
        text = bytes(memoryview(buffer)[:count]).decode("utf-16-le", errors="surrogatepass")
        return text if len(text) == count else "".join(map(chr, buffer[:count]))
    codes = (pdfium.FPDFText_GetUnicode(textpage.raw, index) for index in range(count))
    return "".join(chr(code) if code <= sys.maxunicode else "\x00" for code in codes)


def _paired(text: str) -> str:
    """The text with each pair of surrogates as the character that it stands for."""
    return text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")


class _Geometry:
    """Asks PDFium for boxes and weights; one rectangle is reused, for a page asks a hundred times."""

    def __init__(self, raw: object) -> None:
        self._raw = raw
        self._rectangle = pdfium.FS_RECTF()
        self._reference = ctypes.byref(self._rectangle)
        self._name = ctypes.create_string_buffer(_FONT_NAME_BYTES)

    def line(self, text: str, first: int, last: int, *, number: int) -> Line:
        rectangle = self._rectangle
        self._locate(last)
        right, last_bottom = rectangle.right, rectangle.bottom
        if not (text[-1].isalpha() or text[-1] in _SIZED_LIKE_TEXT):
            # Not the first one, because a line often begins with a bullet or a raised number of another size.
            self._locate(first + (last - first) // 3)
        size = rectangle.top - rectangle.bottom
        self._locate(first)
        return Line(
            text=text,
            page=number,
            left=rectangle.left,
            right=right,
            bottom=rectangle.bottom,
            last_bottom=last_bottom,
            size=size,
            depth=0.0,
            bold=self._may_stand_out(text) and self._bold(last) and self._bold(first),
        )

    @staticmethod
    def _may_stand_out(text: str) -> bool:
        return len(text) <= _MAX_BOLD_LINE and not text.endswith(_ENDS_TEXT)

    def _locate(self, index: int) -> None:
        if not pdfium.FPDFText_GetLooseCharBox(self._raw, index, self._reference):
            raise PdfiumError(f"Character {index} has no box")

    def _bold(self, index: int) -> bool:
        weight = pdfium.FPDFText_GetFontWeight(self._raw, index)
        if weight > 0:
            return bool(weight >= _BOLD_WEIGHT)
        # Fonts without a descriptor, as the standard fourteen, have no weight but a telling name.
        pdfium.FPDFText_GetFontInfo(self._raw, index, self._name, _FONT_NAME_BYTES, None)
        return b"bold" in self._name.value.lower()
