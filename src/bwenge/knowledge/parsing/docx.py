"""DOCX to passages in document order, with headings, lists and tables."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import docx
from docx.oxml.ns import qn

from bwenge.knowledge.parsing.base import (
    MAX_HEADING_LEVEL,
    BlockKind,
    FailureCode,
    ParseFailure,
    ParseObserver,
    Passage,
)
from bwenge.knowledge.parsing.cleaning import clean, collapse
from bwenge.knowledge.parsing.docx_package import check_package

if TYPE_CHECKING:
    from docx.document import Document

_PARAGRAPH: Final = qn("w:p")
_TABLE: Final = qn("w:tbl")
_ROW: Final = qn("w:tr")
_CELL: Final = qn("w:tc")
_TEXT_BOX: Final = qn("w:txbxContent")
_FALLBACK: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# Elements that only wrap content: content controls, custom XML, tracked insertions and moves.
_WRAPPERS: Final = frozenset(
    qn(name) for name in ("w:sdt", "w:sdtContent", "w:customXml", "w:ins", "w:moveTo", "w:smartTag")
)
# Deleted text is not the document's, and each text box is read on its own.
_SKIPPED: Final = frozenset({qn("w:del"), qn("w:moveFrom"), qn("w:pPr"), qn("w:rPr"), _TEXT_BOX, _FALLBACK})
_CHARACTERS: Final = {
    qn("w:tab"): "\t",
    qn("w:br"): "\n",
    qn("w:cr"): "\n",
    qn("w:noBreakHyphen"): "-",
}
_TEXT: Final = qn("w:t")
_VALUE: Final = qn("w:val")
_HEADING_STYLE: Final = re.compile(r"heading ([1-9])")
_BODY_OUTLINE_LEVEL: Final = 9
_MAX_DEPTH: Final = 64
_PROGRESS_EVERY: Final = 200


def parse_docx(path: Path, observer: ParseObserver, *, max_pages: int) -> Iterator[Passage]:
    """Blocks of the body in order; a unit of progress is one child of the body. The format has no pages."""
    del max_pages
    check_package(path)
    document = _open(path)
    styles = _Styles(document)
    children = list(document.element.body)
    for number, child in enumerate(children, start=1):
        yield from _passages(child, styles, depth=0)
        if number % _PROGRESS_EVERY == 0 or number == len(children):
            observer.progress(number, len(children))


def _open(path: Path) -> "Document":
    try:
        return docx.Document(str(path))
    except MemoryError:
        raise
    except Exception as error:
        # python-docx and lxml raise many kinds for a package whose parts contradict each other.
        raise ParseFailure(FailureCode.UNREADABLE, "The file is not a Word document that can be read") from error


class _Styles:
    """What a paragraph's style makes of it, by style id; each chain of `basedOn` is walked once."""

    def __init__(self, document: "Document") -> None:
        self._elements = {style.style_id: style.element for style in document.styles}
        self._roles: dict[str, tuple[BlockKind, int | None]] = {}

    def role(self, paragraph: Any) -> tuple[BlockKind, int | None]:
        """Kind and heading level; what the paragraph says of itself counts before its style."""
        properties = paragraph.pPr
        if properties is None:
            return "paragraph", None
        level = _outline_level(properties)
        if level is not None:
            return "heading", level
        kind, style_level = self._style_role(properties.style)
        if kind == "paragraph" and properties.numPr is not None:
            return "list_item", None
        return kind, style_level

    def _style_role(self, style_id: str | None) -> tuple[BlockKind, int | None]:
        if style_id is None:
            return "paragraph", None
        if style_id not in self._roles:
            self._roles[style_id] = self._find_role(style_id)
        return self._roles[style_id]

    def _find_role(self, style_id: str) -> tuple[BlockKind, int | None]:
        seen: set[str] = set()
        current: str | None = style_id
        while current is not None and current not in seen and (style := self._elements.get(current)) is not None:
            seen.add(current)
            # Word keeps the English name of a built-in style in every language.
            name = (style.name_val or "").lower()
            if match := _HEADING_STYLE.fullmatch(name):
                return "heading", min(int(match[1]), MAX_HEADING_LEVEL)
            if name == "title":
                return "heading", 1
            properties = style.pPr
            if properties is not None and (level := _outline_level(properties)) is not None:
                return "heading", level
            if name.startswith("list") or (properties is not None and properties.numPr is not None):
                return "list_item", None
            base = style.find(qn("w:basedOn"))
            current = base.get(_VALUE) if base is not None else None
        return "paragraph", None


def _outline_level(properties: Any) -> int | None:
    element = properties.find(qn("w:outlineLvl"))
    value = element.get(_VALUE, "") if element is not None else ""
    if not value.isdecimal() or int(value) >= _BODY_OUTLINE_LEVEL:
        return None
    return min(int(value) + 1, MAX_HEADING_LEVEL)


def _passages(element: Any, styles: _Styles, *, depth: int) -> Iterator[Passage]:
    if depth > _MAX_DEPTH:
        raise ParseFailure(FailureCode.TOO_COMPLEX, "The document is nested too deeply")
    if element.tag == _PARAGRAPH:
        yield from _paragraph(element, styles, depth=depth)
    elif element.tag == _TABLE:
        yield from _table(element, styles, depth=depth)
    elif element.tag in _WRAPPERS:
        for child in element:
            yield from _passages(child, styles, depth=depth + 1)


def _paragraph(paragraph: Any, styles: _Styles, *, depth: int) -> Iterator[Passage]:
    text = collapse(clean("".join(_text(paragraph))))
    if text:
        kind, level = styles.role(paragraph)
        if kind == "heading":
            text = " ".join(text.split())
        yield Passage(f"- {text}" if kind == "list_item" else text, kind, level)
    for box in _text_boxes(paragraph):
        for child in box:
            yield from _passages(child, styles, depth=depth + 1)


def _text(element: Any) -> Iterator[str]:
    """The characters of a paragraph, without recursion, for nesting is the sender's choice."""
    stack = list(reversed(element))
    while stack:
        node = stack.pop()
        if node.tag == _TEXT:
            yield node.text or ""
        elif node.tag in _CHARACTERS:
            yield _CHARACTERS[node.tag]
        elif node.tag not in _SKIPPED:
            stack.extend(reversed(node))


def _text_boxes(paragraph: Any) -> Iterator[Any]:
    """Text boxes anchored in the paragraph itself; one inside another is found from that one."""
    stack = list(reversed(paragraph))
    while stack:
        node = stack.pop()
        if node.tag == _TEXT_BOX:
            yield node
        elif node.tag != _FALLBACK:
            stack.extend(reversed(node))


def _table(table: Any, styles: _Styles, *, depth: int) -> Iterator[Passage]:
    """One passage of readable rows, `a | b`; a table of one column is only a frame around its content."""
    rows = [list(_descend(row, _CELL)) for row in _descend(table, _ROW)]
    if max((len(row) for row in rows), default=0) <= 1:
        for row in rows:
            for cell in row:
                for child in cell:
                    yield from _passages(child, styles, depth=depth + 1)
        return
    lines = (" | ".join(_cell_text(cell) for cell in row) for row in rows)
    yield Passage("\n".join(line for line in lines if line.strip(" |")), "table")


def _descend(element: Any, tag: str) -> Iterator[Any]:
    """Children with the tag, through wrappers."""
    stack = list(reversed(element))
    while stack:
        node = stack.pop()
        if node.tag == tag:
            yield node
        elif node.tag in _WRAPPERS:
            stack.extend(reversed(node))


def _cell_text(cell: Any) -> str:
    paragraphs = ("".join(_text(paragraph)) for paragraph in cell.iter(_PARAGRAPH))
    return " ".join(clean(" ".join(paragraphs)).split())
