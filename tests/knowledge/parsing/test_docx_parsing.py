import re
import zipfile
from pathlib import Path

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from bwenge.knowledge.parsing import docx_package
from bwenge.knowledge.parsing.base import FailureCode, ParseFailure, Passage
from bwenge.knowledge.parsing.docx import parse_docx
from tests.knowledge.parsing.sample_files import Observed, write_docx


def parsed(path: Path) -> list[Passage]:
    return list(parse_docx(path, Observed(), max_pages=1))


def failure_code(path: Path) -> FailureCode:
    with pytest.raises(ParseFailure) as failure:
        parsed(path)
    return failure.value.code


def replaced(source: Path, name: str, change: tuple[bytes, bytes]) -> Path:
    """The package with one part changed."""
    target = source.with_name("changed.docx")
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            content = before.read(entry)
            after.writestr(entry.filename, content.replace(*change) if entry.filename == name else content)
    return target


def test_headings_paragraphs_lists_and_tables_come_in_document_order(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Plants", level=1)
    document.add_paragraph("They are green.")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ["Part", "Use", "Leaf", "Breathing"], strict=True):
        cell.text = text
    document.add_heading("Needs", level=2)
    document.add_paragraph("Water", style="List Bullet")
    document.add_paragraph("Light", style="List Number")
    assert parsed(write_docx(tmp_path / "a.docx", document)) == [
        Passage("Plants", "heading", 1),
        Passage("They are green."),
        Passage("Part | Use\nLeaf | Breathing", "table"),
        Passage("Needs", "heading", 2),
        Passage("- Water", "list_item"),
        Passage("- Light", "list_item"),
    ]


def test_a_title_is_a_heading_of_the_first_level(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("The whole book", level=0)
    assert parsed(write_docx(tmp_path / "a.docx", document)) == [Passage("The whole book", "heading", 1)]


def test_a_style_based_on_a_heading_is_a_heading(tmp_path: Path) -> None:
    document = docx.Document()
    style = document.styles.add_style("Chapter", WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = document.styles["Heading 3"]
    document.add_paragraph("Soil", style="Chapter")
    assert parsed(write_docx(tmp_path / "a.docx", document)) == [Passage("Soil", "heading", 3)]


def test_styles_based_on_each_other_end(tmp_path: Path) -> None:
    document = docx.Document()
    first = document.styles.add_style("First", WD_STYLE_TYPE.PARAGRAPH)
    second = document.styles.add_style("Second", WD_STYLE_TYPE.PARAGRAPH)
    first.base_style, second.base_style = second, first
    document.add_paragraph("Round and round", style="First")
    assert parsed(write_docx(tmp_path / "a.docx", document)) == [Passage("Round and round")]


def test_a_table_of_one_column_is_a_frame_around_its_content(tmp_path: Path) -> None:
    document = docx.Document()
    cell = document.add_table(rows=1, cols=1).cell(0, 0)
    cell.text = "Framed text."
    cell.add_paragraph("Framed heading", style="Heading 2")
    assert parsed(write_docx(tmp_path / "a.docx", document)) == [
        Passage("Framed text."),
        Passage("Framed heading", "heading", 2),
    ]


def test_cells_merged_downwards_keep_the_columns_aligned(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(rows=2, cols=2)
    table.cell(0, 0).merge(table.cell(1, 0)).text = "Maize"
    table.cell(0, 1).text, table.cell(1, 1).text = "March", "June"
    assert [passage.text for passage in parsed(write_docx(tmp_path / "a.docx", document))] == ["Maize | March\n | June"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<w:ins w:id='1' w:author='a'><w:r><w:t>added</w:t></w:r></w:ins>", "Kept added"),
        ("<w:del w:id='1' w:author='a'><w:r><w:delText>gone</w:delText></w:r></w:del>", "Kept"),
        ("<w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink>", "Kept link"),
        ("<w:r><w:tab/><w:t>after tab</w:t><w:br/><w:t>below</w:t></w:r>", "Kept after tab\nbelow"),
        ("<w:sdt><w:sdtContent><w:r><w:t>control</w:t></w:r></w:sdtContent></w:sdt>", "Kept control"),
    ],
)
def test_the_text_of_a_paragraph_is_what_a_reader_sees(tmp_path: Path, body: str, expected: str) -> None:
    document = docx.Document()
    paragraph = f"<w:p {nsdecls('w')}><w:r><w:t xml:space='preserve'>Kept </w:t></w:r>{body}</w:p>"
    document.element.body.insert(0, parse_xml(paragraph))
    assert [passage.text for passage in parsed(write_docx(tmp_path / "a.docx", document))] == [expected]


def test_text_boxes_are_read_once_after_their_paragraph(tmp_path: Path) -> None:
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    box = "<w:txbxContent><w:p><w:r><w:t>In the box</w:t></w:r></w:p></w:txbxContent>"
    choice = f"<mc:Choice Requires='wps'>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    document = docx.Document()
    run = f"<w:r><w:t>Outside</w:t><mc:AlternateContent>{choice}</mc:AlternateContent></w:r>"
    xml = f"<w:p {nsdecls('w')} {mc}>{run}</w:p>"
    document.element.body.insert(0, parse_xml(xml))
    assert [passage.text for passage in parsed(write_docx(tmp_path / "a.docx", document))] == ["Outside", "In the box"]


def test_content_controls_around_paragraphs_are_read(tmp_path: Path) -> None:
    document = docx.Document()
    xml = f"<w:sdt {nsdecls('w')}><w:sdtContent><w:p><w:r><w:t>Cover</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    document.element.body.insert(0, parse_xml(xml))
    assert [passage.text for passage in parsed(write_docx(tmp_path / "a.docx", document))] == ["Cover"]


def test_nesting_without_measure_is_too_complex(tmp_path: Path) -> None:
    depth = 100
    xml = f"<w:sdt {nsdecls('w')}>" + "<w:sdtContent><w:sdt>" * depth + "</w:sdt></w:sdtContent>" * depth + "</w:sdt>"
    document = docx.Document()
    document.element.body.insert(0, parse_xml(xml))
    assert failure_code(write_docx(tmp_path / "a.docx", document)) is FailureCode.TOO_COMPLEX


def test_progress_ends_at_the_last_child_of_the_body(tmp_path: Path) -> None:
    observer = Observed()
    list(parse_docx(write_docx(tmp_path / "a.docx"), observer, max_pages=1))
    done, total = observer.steps[-1]
    assert done == total > 0


@pytest.mark.parametrize(
    "declaration",
    [
        b'<!DOCTYPE w [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
        b'<!DOCTYPE w [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE w SYSTEM "http://127.0.0.1/x.dtd">',
    ],
)
def test_a_document_type_declaration_is_refused(tmp_path: Path, declaration: bytes) -> None:
    sound = write_docx(tmp_path / "a.docx")
    changed = replaced(sound, "word/document.xml", (b"<w:document", declaration + b"<w:document"))
    assert failure_code(changed) is FailureCode.UNREADABLE


def test_an_archive_that_would_unpack_too_large_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docx_package, "MAX_XML_BYTES", 1000)
    assert failure_code(write_docx(tmp_path / "a.docx")) is FailureCode.TOO_LARGE


def test_pictures_count_towards_the_unpacked_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_docx(tmp_path / "a.docx")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/image1.png", bytes(2_000_000))
    monkeypatch.setattr(docx_package, "MAX_UNPACKED_BYTES", 1_900_000)
    assert failure_code(path) is FailureCode.TOO_LARGE


def test_an_archive_of_too_many_parts_is_too_complex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docx_package, "MAX_ENTRIES", 3)
    assert failure_code(write_docx(tmp_path / "a.docx")) is FailureCode.TOO_COMPLEX


def test_a_part_that_unpacks_to_more_than_it_declares_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "liar.docx"
    sound = write_docx(tmp_path / "a.docx").read_bytes()
    at = sound.rindex(b"word/document.xml") - 46  # the central directory's entry
    size = int.from_bytes(sound[at + 24 : at + 28], "little")
    path.write_bytes(sound[: at + 24] + (size // 2).to_bytes(4, "little") + sound[at + 28 :])
    assert failure_code(path) is FailureCode.UNREADABLE


@pytest.mark.parametrize("keep", [30, 400, 20_000])
def test_a_truncated_docx_is_unreadable(tmp_path: Path, keep: int) -> None:
    path = write_docx(tmp_path / "a.docx")
    path.write_bytes(path.read_bytes()[:keep])
    assert failure_code(path) is FailureCode.UNREADABLE


def test_an_archive_without_a_document_is_unreadable(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    assert failure_code(tmp_path / "a.docx") is FailureCode.UNREADABLE


def test_a_part_that_is_not_xml_is_unreadable(tmp_path: Path) -> None:
    sound = write_docx(tmp_path / "a.docx")
    changed = replaced(sound, "word/document.xml", (b"<?xml", b"\x00\x01<?xml"))
    assert failure_code(changed) is FailureCode.UNREADABLE


def test_an_ole_file_is_a_document_under_a_password(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert failure_code(tmp_path / "a.docx") is FailureCode.ENCRYPTED


def test_messages_are_for_people_and_name_no_path(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ParseFailure) as failure:
        parsed(tmp_path / "a.docx")
    assert not re.search(r"/|\.docx|Error", failure.value.message)
