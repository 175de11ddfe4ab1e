"""PDF to passages, by PDFium."""

from collections.abc import Iterator
from pathlib import Path

import pypdfium2.raw as pdfium
from pypdfium2 import PdfDocument, PdfiumError

from bwenge.knowledge.parsing.base import FailureCode, ParseFailure, ParseObserver, ParseWarning, Passage
from bwenge.knowledge.parsing.pdf_layout import passages
from bwenge.knowledge.parsing.pdf_lines import Line, read_page

_PAGES_LISTED = 100


def parse_pdf(path: Path, observer: ParseObserver, *, max_pages: int) -> Iterator[Passage]:
    """Reads all pages, then tells their text from their furniture, which needs them all.

    A page that cannot be read is a warning (`pages_unreadable`), as are pages without text (`pages_without_text`).
    """
    document = _open(path)
    try:
        yield from passages(_read_pages(document, observer, max_pages=max_pages))
    finally:
        document.close()


def _open(path: Path) -> PdfDocument:
    try:
        return PdfDocument(path)
    except PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise ParseFailure(FailureCode.ENCRYPTED, "The PDF is protected by a password") from error
        raise ParseFailure(FailureCode.UNREADABLE, "The file is not a PDF that can be read") from error


def _read_pages(document: PdfDocument, observer: ParseObserver, *, max_pages: int) -> list[list[Line]]:
    total = len(document)
    if total == 0:
        raise ParseFailure(FailureCode.UNREADABLE, "The PDF has no pages")
    if total > max_pages:
        raise ParseFailure(FailureCode.TOO_COMPLEX, f"The PDF has {total} pages; at most {max_pages} are read")
    pages: list[list[Line]] = []
    unreadable: list[int] = []
    blank: list[int] = []
    for index in range(total):
        lines: list[Line] = []
        try:
            lines = read_page(document, index)
        except PdfiumError:
            unreadable.append(index + 1)
        else:
            if not lines:
                blank.append(index + 1)
        pages.append(lines)
        observer.progress(index + 1, total)
    if len(unreadable) == total:
        raise ParseFailure(FailureCode.UNREADABLE, "No page of the PDF can be read")
    _warn(observer, "pages_unreadable", "Some pages cannot be read", unreadable)
    _warn(observer, "pages_without_text", "Some pages hold no text, perhaps only images", blank)
    return pages


def _warn(observer: ParseObserver, code: str, message: str, pages: list[int]) -> None:
    if pages:
        observer.warn(ParseWarning(code, message, count=len(pages), pages=tuple(pages[:_PAGES_LISTED])))
