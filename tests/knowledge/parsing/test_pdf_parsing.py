from pathlib import Path

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption

from bwenge.knowledge.parsing.base import FailureCode, ParseFailure, Passage
from bwenge.knowledge.parsing.pdf import parse_pdf
from tests.knowledge.parsing.sample_files import (
    CATALOG,
    HEIGHT,
    HELVETICA,
    Observed,
    PdfWriter,
    raw_pdf,
    stream,
    write_pdf,
)

WRAPPED = ("A long first line of a paragraph that fills the width of the page to", "its right margin and ends here.")


def parsed(path: Path, observer: Observed | None = None) -> list[Passage]:
    return list(parse_pdf(path, observer or Observed(), max_pages=100))


def texts(path: Path) -> list[str]:
    return [passage.text for passage in parsed(path)]


def test_pages_count_from_one_as_a_viewer_shows_them(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["First page."], ["Second page."]])
    assert [(passage.page, passage.text) for passage in parsed(path)] == [(1, "First page."), (2, "Second page.")]


def test_progress_counts_pages(tmp_path: Path) -> None:
    observer = Observed()
    parsed(write_pdf(tmp_path / "a.pdf", [["One."], ["Two."]]), observer)
    assert observer.steps == [(1, 2), (2, 2)]


def test_lines_of_a_paragraph_are_joined_and_a_gap_begins_another(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    writer.paragraph(*WRAPPED).paragraph(*WRAPPED).save()
    assert texts(tmp_path / "a.pdf") == [" ".join(WRAPPED)] * 2


def test_larger_lines_are_headings_ranked_by_size(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    writer.line("Biology", size=24, gap=20).paragraph(*WRAPPED * 3)
    writer.line("The cell", size=16, gap=20).paragraph(*WRAPPED * 3).save()
    headings = [(passage.text, passage.level) for passage in parsed(tmp_path / "a.pdf") if passage.kind == "heading"]
    assert headings == [("Biology", 1), ("The cell", 2)]


def test_a_bold_line_standing_apart_is_a_heading_below_the_larger_ones(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    writer.line("Biology", size=24, gap=20).paragraph(*WRAPPED * 3)
    writer.line("Organelles", font="Helvetica-Bold", gap=14).paragraph(*WRAPPED * 3).save()
    assert Passage("Organelles", "heading", 2, 1) in parsed(tmp_path / "a.pdf")


def test_a_document_whose_lines_are_mostly_large_has_no_headings_by_size(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    for number in range(4):
        writer.line(f"Large but ordinary words {number}", size=16, gap=8)
    writer.paragraph(*["Small print, of which there is a little more on this page than of the other."] * 2).save()
    assert all(passage.kind == "paragraph" for passage in parsed(tmp_path / "a.pdf"))


def test_list_items_are_told_by_their_bullets(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    writer.paragraph("They need:", "\u2022 water", "\u2022 light").save()
    assert [passage.kind for passage in parsed(tmp_path / "a.pdf")] == ["paragraph", "list_item", "list_item"]


def test_running_heads_and_page_numbers_are_dropped(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    for number in range(1, 6):
        writer.at(72, HEIGHT - 40, "Biology for Senior Two").at(290, 30, str(number))
        writer.paragraph(f"Text number {number} of the book.").next_page()
    writer.save()
    assert texts(tmp_path / "a.pdf") == [f"Text number {number} of the book." for number in range(1, 6)]


def test_roman_page_numbers_are_dropped(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    for number in ("i", "ii", "iii"):
        writer.at(290, 30, number).paragraph("A preface goes on.").next_page()
    writer.save()
    assert texts(tmp_path / "a.pdf") == ["A preface goes on."] * 3


def test_a_number_in_the_margin_that_does_not_count_pages_stays(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    for number in ("1994", "2003", "1962"):
        writer.at(290, 30, number).paragraph("A year.").next_page()
    writer.save()
    assert texts(tmp_path / "a.pdf").count("1994") == 1


def test_pages_of_one_similar_line_each_keep_it(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    for number in range(1, 6):
        writer.at(72, HEIGHT - 60, f"Page {number} speaks of rivers").next_page()
    writer.save()
    assert texts(tmp_path / "a.pdf") == [f"Page {number} speaks of rivers" for number in range(1, 6)]


def test_a_first_line_close_to_its_paragraph_is_no_running_head(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf")
    for _ in range(4):
        writer.at(72, HEIGHT - 60, "The experiment was repeated with").at(72, HEIGHT - 73, "another plant.").next_page()
    writer.save()
    assert texts(tmp_path / "a.pdf") == ["The experiment was repeated with another plant."] * 4


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("Plants live by photosyn-", "thesis alone."), "Plants live by photosynthesis alone."),
        (("A well-known fact is a well-", "known fact."), "A well-known fact is a well-known fact."),
        (("It was written by Jean-", "Paul in Butare."), "It was written by Jean-Paul in Butare."),
        (("See https://example.org/soil-", "science for more."), "See https://example.org/soil-science for more."),
        (("Between 1990-", "1994 it grew."), "Between 1990- 1994 it grew."),
    ],
)
def test_hyphens_at_line_ends_go_only_where_they_belong_to_the_line(
    tmp_path: Path, lines: tuple[str, str], expected: str
) -> None:
    assert texts(write_pdf(tmp_path / "a.pdf", [lines])) == [expected]


def test_characters_outside_the_basic_plane_and_ligatures_are_read(tmp_path: Path) -> None:
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        b"1 begincodespacerange <00> <FF> endcodespacerange "
        b"2 beginbfchar <41> <D835DC65> <42> <FB01> endbfchar endcmap end end"
    )
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</T 5 0 R>>>>>>"
    pages = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    content = stream(b"BT /T 12 Tf 72 700 Td (find A or Bnd B) Tj ET")
    raw_pdf(tmp_path / "a.pdf", [CATALOG, pages, page, content, font, stream(cmap)])
    assert texts(tmp_path / "a.pdf") == ["find \U0001d465 or find fi"]


def test_a_page_that_cannot_be_read_is_a_warning_and_the_others_are_read(tmp_path: Path) -> None:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</T 5 0 R>>>>>>"
    pages = b"<</Type/Pages/Kids[3 0 R 9 0 R]/Count 2>>"
    content = stream(b"BT /T 12 Tf 72 700 Td (Still here) Tj ET")
    raw_pdf(tmp_path / "a.pdf", [CATALOG, pages, page, content, HELVETICA])
    observer = Observed()
    assert [passage.text for passage in parsed(tmp_path / "a.pdf", observer)] == ["Still here"]
    assert [(warning.code, warning.pages) for warning in observer.warnings] == [("pages_unreadable", (2,))]


def test_pages_without_text_are_counted(tmp_path: Path) -> None:
    observer = Observed()
    parsed(write_pdf(tmp_path / "a.pdf", [["Text."], [], [], ["More."]]), observer)
    assert [warning.as_dict() for warning in observer.warnings] == [
        {
            "code": "pages_without_text",
            "message": "Some pages hold no text, perhaps only images",
            "count": 2,
            "pages": [2, 3],
        }
    ]


def test_a_password_makes_a_pdf_encrypted(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf", encrypt=StandardEncryption("secret", strength=128))
    writer.paragraph("Hidden.").save()
    with pytest.raises(ParseFailure) as failure:
        parsed(tmp_path / "a.pdf")
    assert failure.value.code is FailureCode.ENCRYPTED


def test_a_pdf_that_only_restricts_its_use_is_read(tmp_path: Path) -> None:
    writer = PdfWriter(tmp_path / "a.pdf", encrypt=StandardEncryption("", ownerPassword="owner", canCopy=0))
    writer.paragraph("Open to readers.").save()
    assert texts(tmp_path / "a.pdf") == ["Open to readers."]


@pytest.mark.parametrize("content", [b"%PDF-1.7\n", b"%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>"])
def test_a_truncated_pdf_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(ParseFailure) as failure:
        parsed(tmp_path / "a.pdf")
    assert failure.value.code is FailureCode.UNREADABLE


def test_more_pages_than_allowed_are_too_complex(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["One."], ["Two."]])
    with pytest.raises(ParseFailure) as failure:
        list(parse_pdf(path, Observed(), max_pages=1))
    assert failure.value.code is FailureCode.TOO_COMPLEX
