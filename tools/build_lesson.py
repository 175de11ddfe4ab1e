"""Typesets the demo lesson: `python tools/build_lesson.py` makes lesson.pdf from lesson.md beside it.

The same source gives the same bytes: dates and document ids are ReportLab's invariant ones, streams are left
uncompressed so that the machine's zlib has no say, and the fonts are the Bitstream Vera files inside ReportLab's wheel.

Beyond CommonMark and tables, a fenced block `figure bar` or `figure balance` is drawn, and a block quote is a
worked example in a shaded box.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from reportlab.graphics.shapes import Drawing, Line, Polygon, Rect, String
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reportlab.pdfgen.canvas import Canvas


DEMO_DIR: Final = Path(__file__).resolve().parents[1] / "src" / "bwenge" / "apps" / "demo"
SOURCE: Final = DEMO_DIR / "lesson.md"
OUTPUT: Final = DEMO_DIR / "lesson.pdf"

AUTHOR: Final = "Bwenge OS contributors"
SUBJECT: Final = "Mathematics, Senior 1 to Senior 3"
LICENCE_LINE: Final = f"{AUTHOR}, CC BY 4.0"

INK: Final = HexColor("#1F2933")
BLUE: Final = HexColor("#14507A")
PALE_BLUE: Final = HexColor("#EAF2F8")
GOLD: Final = HexColor("#E0A526")
PALE_GOLD: Final = HexColor("#F8E3B0")
GREY: Final = HexColor("#66727F")
RULE: Final = HexColor("#B8C6D1")

MARGIN: Final = 21 * mm
TOP, BOTTOM = A4[1] - 17 * mm, 21 * mm
TEXT_WIDTH: Final = A4[0] - 2 * MARGIN
FIGURE_WIDTH: Final = 400.0

FONT, BOLD = "Vera", "VeraBd"

BODY: Final = ParagraphStyle(
    "body",
    fontName=FONT,
    bulletFontName=FONT,
    fontSize=11,
    bulletFontSize=11,
    leading=15.5,
    textColor=INK,
    spaceAfter=6,
    allowWidows=0,
    allowOrphans=0,
)
STYLES: Final = {
    "body": BODY,
    "title": ParagraphStyle("title", BODY, fontName=BOLD, fontSize=21, leading=27, textColor=white, spaceAfter=0),
    "h2": ParagraphStyle("h2", BODY, fontName=BOLD, fontSize=16, leading=21, textColor=BLUE, spaceBefore=14),
    "h3": ParagraphStyle("h3", BODY, fontName=BOLD, fontSize=12.5, leading=17, textColor=BLUE, spaceBefore=8),
    "list": ParagraphStyle("list", BODY, leftIndent=27, bulletIndent=3, spaceAfter=3.5),
    "box": ParagraphStyle("box", BODY, spaceAfter=3),
    "box title": ParagraphStyle("box title", BODY, textColor=BLUE, spaceAfter=4),
    "cell": ParagraphStyle("cell", BODY, alignment=TA_CENTER, spaceAfter=0),
    "caption": ParagraphStyle("caption", BODY, fontSize=10, alignment=TA_CENTER, textColor=GREY, spaceAfter=8),
}


class FigureError(ValueError):
    """A figure block that asks for an unknown kind of figure or lacks one of its lines."""


class Heading(Paragraph):
    """A heading that also enters the document's outline; level 0 is a section, 1 a part of one."""

    def __init__(self, markup: str, plain: str, *, level: int) -> None:
        super().__init__(markup, STYLES[f"h{level + 2}"])
        self.keepWithNext = 1
        self._plain = plain
        self._level = level

    def draw(self) -> None:
        key = f"heading-{self._plain}"
        self.canv.bookmarkHorizontal(key, 0, self.height)
        self.canv.addOutlineEntry(self._plain, key, level=self._level, closed=False)
        super().draw()


def build_pdf(markdown: str) -> bytes:
    """The PDF of a lesson written in Markdown. Raises FigureError for a figure that cannot be drawn."""
    _register_fonts()
    root = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown))
    title = next(_plain(node) for node in root.children if node.tag == "h1")
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=title,
        author=AUTHOR,
        subject=SUBJECT,
        lang="en",
        invariant=1,
        pageCompression=0,
    )

    def footer(canvas: Canvas, _document: object) -> None:
        _draw_footer(canvas, title)

    frame = Frame(MARGIN, BOTTOM, TEXT_WIDTH, TOP - BOTTOM, 0, 0, 0, 0)
    # The footer is drawn after the text, so that it also comes last when the page's text is extracted.
    document.addPageTemplates(PageTemplate(frames=[frame], onPageEnd=footer))
    document.build([flowable for node in root.children for flowable in _flowables(node)])
    return buffer.getvalue()


def _register_fonts() -> None:
    for name in (FONT, BOLD):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD)


def _draw_footer(canvas: Canvas, title: str) -> None:
    canvas.saveState()
    canvas.setStrokeColor(RULE)
    canvas.setLineWidth(0.6)
    canvas.line(MARGIN, 16 * mm, A4[0] - MARGIN, 16 * mm)
    canvas.setFillColor(GREY)
    canvas.setFont(FONT, 8.5)
    canvas.drawString(MARGIN, 11 * mm, title)
    canvas.setFont(BOLD, 8.5)
    canvas.drawRightString(A4[0] - MARGIN, 11 * mm, f"Page {canvas.getPageNumber()}")
    canvas.restoreState()


def _plain(node: SyntaxTreeNode) -> str:
    return "".join(leaf.content for leaf in node.walk() if leaf.type == "text")


def _markup(node: SyntaxTreeNode) -> str:
    """ReportLab's inline markup of a node's text."""
    if node.type == "text":
        return escape(node.content)
    if node.type == "softbreak":
        return " "
    inner = "".join(_markup(child) for child in node.children)
    return f"<b>{inner}</b>" if node.type == "strong" else inner


def _flowables(node: SyntaxTreeNode) -> list[Flowable]:
    """What a block of the source becomes on the page; a kind of block that the lesson never uses is a KeyError."""
    return _BLOCKS[node.type](node)


def _heading(node: SyntaxTreeNode) -> list[Flowable]:
    if node.tag == "h1":
        return [_title_band(_markup(node)), Spacer(1, 10)]
    return [Heading(_markup(node), _plain(node), level=int(node.tag[1:]) - 2)]


def _title_band(markup: str) -> Flowable:
    licence = ParagraphStyle("licence", BODY, fontSize=9, leading=14, textColor=PALE_GOLD, spaceAfter=0)
    band = Table([[[Paragraph(markup, STYLES["title"]), Spacer(1, 5), Paragraph(LICENCE_LINE, licence)]]], [TEXT_WIDTH])
    band.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), BLUE),
                ("LINEBELOW", (0, 0), (-1, -1), 4, GOLD),
                ("LEFTPADDING", (0, 0), (-1, -1), 16),
                ("RIGHTPADDING", (0, 0), (-1, -1), 16),
                ("TOPPADDING", (0, 0), (-1, -1), 16),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 14),
            ]
        )
    )
    return band


def _paragraph(node: SyntaxTreeNode) -> list[Flowable]:
    paragraph = Paragraph(_markup(node), BODY)
    paragraph.keepWithNext = int(_plain(node).endswith(":"))  # it announces a list
    return [paragraph]


def _list(node: SyntaxTreeNode) -> list[Flowable]:
    numbered = node.type == "ordered_list"
    items: list[Flowable] = [
        Paragraph(_markup(item), STYLES["list"], bulletText=f"{number}." if numbered else "•")
        for number, item in enumerate(node.children, 1)
    ]
    return [*items, Spacer(1, 5)]


def _worked_example(node: SyntaxTreeNode) -> list[Flowable]:
    title, *lines = node.children
    content = [Paragraph(_markup(title), STYLES["box title"])]
    content += [Paragraph(_markup(line), STYLES["box"]) for line in lines]
    box = Table([[content]], [TEXT_WIDTH])
    box.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), PALE_BLUE),
                ("LINEBEFORE", (0, 0), (0, -1), 4, BLUE),
                ("LEFTPADDING", (0, 0), (-1, -1), 14),
                ("RIGHTPADDING", (0, 0), (-1, -1), 12),
                ("TOPPADDING", (0, 0), (-1, -1), 8),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 8),
            ]
        )
    )
    return [Spacer(1, 3), box, Spacer(1, 9)]


def _table(node: SyntaxTreeNode) -> list[Flowable]:
    rows = [row for section in node.children for row in section.children]
    cells = [[Paragraph(_markup(cell), STYLES["cell"]) for cell in row.children] for row in rows]
    table = Table(cells, [90] * len(cells[0]))
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), PALE_GOLD),
                ("LINEABOVE", (0, 0), (-1, 0), 1, GOLD),
                ("LINEBELOW", (0, 0), (-1, -1), 0.6, RULE),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return [Spacer(1, 2), KeepTogether([table]), Spacer(1, 10)]


def _figure(node: SyntaxTreeNode) -> list[Flowable]:
    draw = _FIGURES.get(node.info)
    if draw is None:
        raise FigureError(f"no such figure: {node.info!r}")
    lines = dict(line.split(": ", 1) for line in node.content.strip().splitlines())
    try:
        drawing, caption = draw(lines), lines["caption"]
    except KeyError as missing:
        raise FigureError(f"{node.info} lacks its line {missing}") from missing
    drawing.hAlign = "CENTER"
    return [KeepTogether([drawing, Spacer(1, 3), Paragraph(escape(caption), STYLES["caption"])])]


def _parts(line: str) -> list[str]:
    return [part.strip() for part in line.split("|")]


def _centred(text: str, *, x: float, y: float, size: float, font: str = FONT) -> String:
    return String(x, y, text, fontName=font, fontSize=size, textAnchor="middle", fillColor=INK)


def _box(rectangle: Rect, fill: Color) -> Rect:
    rectangle.setProperties({"fillColor": fill, "strokeColor": BLUE, "strokeWidth": 1.2})
    return rectangle


def _bar(lines: Mapping[str, str]) -> Drawing:
    """Equal parts side by side, the first of them shaded, with a word in each and an amount below it."""
    inside, below, shaded = _parts(lines["inside"]), _parts(lines["below"]), int(lines["shaded"])
    width = FIGURE_WIDTH / len(inside)
    drawing = Drawing(FIGURE_WIDTH, 54)
    for index, name in enumerate(inside):
        drawing.add(_box(Rect(index * width, 19, width, 30), GOLD if index < shaded else PALE_BLUE))
        drawing.add(_centred(name, x=(index + 0.5) * width, y=30, size=11, font=BOLD))
    for index, amount in enumerate(below):
        drawing.add(_centred(amount, x=(index + 0.5) * width, y=5, size=10))
    return drawing


def _balance(lines: Mapping[str, str]) -> Drawing:
    """A level beam on a stand, with a pan of labelled weights at each end."""
    drawing = Drawing(FIGURE_WIDTH, 122)
    centre, beam = FIGURE_WIDTH / 2, 100
    drawing.add(Polygon([centre - 26, 4, centre + 26, 4, centre, beam], fillColor=PALE_BLUE, strokeColor=BLUE))
    drawing.add(Line(centre - 130, beam, centre + 130, beam, strokeColor=BLUE, strokeWidth=4))
    for side, middle in (("left", centre - 130), ("right", centre + 130)):
        for edge in (middle - 62, middle + 62):
            drawing.add(Line(middle, beam, edge, 30, strokeColor=RULE, strokeWidth=1))
        drawing.add(Line(middle - 66, 29, middle + 66, 29, strokeColor=BLUE, strokeWidth=3))
        _add_weights(drawing, _parts(lines[side]), middle)
    return drawing


def _add_weights(drawing: Drawing, labels: list[str], middle: float) -> None:
    size, gap = 28, 5
    left = middle - (len(labels) * (size + gap) - gap) / 2
    for index, label in enumerate(labels):
        x = left + index * (size + gap)
        drawing.add(_box(Rect(x, 31, size, size, rx=3, ry=3), PALE_GOLD if label.isdigit() else GOLD))
        drawing.add(_centred(label, x=x + size / 2, y=41, size=12, font=BOLD))


_FIGURES: Final[Mapping[str, Callable[[Mapping[str, str]], Drawing]]] = {
    "figure bar": _bar,
    "figure balance": _balance,
}
_BLOCKS: Final[Mapping[str, Callable[[SyntaxTreeNode], list[Flowable]]]] = {
    "heading": _heading,
    "paragraph": _paragraph,
    "bullet_list": _list,
    "ordered_list": _list,
    "blockquote": _worked_example,
    "table": _table,
    "fence": _figure,
}


if __name__ == "__main__":
    OUTPUT.write_bytes(build_pdf(SOURCE.read_text(encoding="utf-8")))
