"""Small documents made on the spot, sound and hostile."""

import io
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import docx
from docx.document import Document
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from bwenge.knowledge.parsing.base import ParseWarning

WIDTH, HEIGHT = A4


class Observed:
    """Remembers what a parser reported."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.warnings: list[ParseWarning] = []

    def progress(self, units_done: int, units_total: int) -> None:
        self.steps.append((units_done, units_total))

    def warn(self, warning: ParseWarning) -> None:
        self.warnings.append(warning)


class PdfWriter:
    """Draws lines downwards; a page without anything drawn on it is blank."""

    def __init__(self, path: Path, *, encrypt: Any = None) -> None:
        self.canvas = Canvas(str(path), pagesize=A4, encrypt=encrypt)
        self._y = HEIGHT - 120

    def line(
        self, text: str, *, size: float = 11, font: str = "Helvetica", gap: float = 0, x: float = 72
    ) -> "PdfWriter":
        """`gap` is extra space above the line."""
        self._y -= size * 1.2 + gap
        self.at(x, self._y, text, size=size, font=font)
        return self

    def paragraph(self, *lines: str) -> "PdfWriter":
        for number, text in enumerate(lines):
            self.line(text, gap=0 if number else 12)
        return self

    def at(self, x: float, y: float, text: str, *, size: float = 11, font: str = "Helvetica") -> "PdfWriter":
        self.canvas.setFont(font, size)
        self.canvas.drawString(x, y, text)
        return self

    def next_page(self) -> "PdfWriter":
        self.canvas.showPage()
        self._y = HEIGHT - 120
        return self

    def save(self) -> None:
        self.canvas.save()


def write_pdf(path: Path, pages: Iterable[Sequence[str]]) -> Path:
    """Pages of lines; a page without lines is blank."""
    writer = PdfWriter(path)
    for lines in pages:
        writer.paragraph(*lines).next_page()
    writer.save()
    return path


def raw_pdf(path: Path, objects: Sequence[bytes]) -> Path:
    """A PDF of the given objects, numbered from 1, of which the first is the catalog."""
    content = io.BytesIO()
    content.write(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(content.tell())
        content.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = content.tell()
    content.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    content.writelines(b"%010d 00000 n \n" % place for place in places)
    content.write(b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    path.write_bytes(content.getvalue())
    return path


def stream(body: bytes, extra: bytes = b"", *, compress: bool = False) -> bytes:
    if compress:
        body, extra = zlib.compress(body, 9), extra + b"/Filter/FlateDecode"
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (extra, len(body), body)


PAGES = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
HELVETICA = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def endless_pdf(path: Path) -> Path:
    """Twelve forms, each of which draws the next ten times: 10 to the 12th pieces of text in three kilobytes."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</XObject<</F 6 0 R>>>>>>"
    objects = [CATALOG, PAGES, page, stream(b"/F Do"), HELVETICA]
    for depth in range(12):
        inner = b"/XObject<</F %d 0 R>>" % (7 + depth)
        extra = b"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<<%s>>" % inner
        objects.append(stream(b"/F Do " * 10, extra))
    text = stream(
        b"BT /T 12 Tf 72 700 Td (again) Tj ET",
        b"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</Font<</T 5 0 R>>>>",
    )
    return raw_pdf(path, [*objects, text])


def greedy_pdf(path: Path, *, megabytes: int) -> Path:
    """A page whose content unpacks to so many megabytes of text operators, from a thousandth of that."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</T 5 0 R>>>>>>"
    drawing = b"BT /T 12 Tf 72 700 Td (The quick brown fox) Tj ET\n"
    content = stream(drawing * (megabytes * 1024 * 1024 // len(drawing)), compress=True)
    return raw_pdf(path, [CATALOG, PAGES, page, content, HELVETICA])


def write_docx(path: Path, document: Document | None = None) -> Path:
    if document is None:
        document = docx.Document()
        document.add_heading("Photosynthesis", level=1)
        document.add_paragraph("Plants make sugar from light.")
    document.save(str(path))
    return path
