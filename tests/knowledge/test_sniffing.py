import io
import zipfile
from pathlib import Path

import pytest

from bwenge.kit.errors import UnsupportedType
from bwenge.knowledge.sniffing import MediaType, UnsupportedMedia, sniff
from tests.knowledge.parsing.sample_files import write_docx, write_pdf

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def archive(*names: str, comment: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        for name in names:
            written.writestr(name, "<x/>")
        written.comment = comment
    return content.getvalue()


def written(tmp_path: Path, content: bytes, name: str = "upload") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_a_pdf_is_known_whatever_its_name(tmp_path: Path) -> None:
    assert sniff(write_pdf(tmp_path / "notes.txt", [["Text."]])) is MediaType.PDF


def test_a_docx_is_known_whatever_its_name(tmp_path: Path) -> None:
    assert sniff(write_docx(tmp_path / "notes.pdf")) is MediaType.DOCX


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7",
        b"\n\n%PDF-1.4 ...",
        b"%%PDF-1.4 ...",
        b"HTTP/1.1 200 OK\r\n\r\n%PDF-1.4",
        b"\x01\x02" * 500 + b"%PDF-1.4",
    ],
)
def test_the_header_of_a_pdf_may_stand_anywhere_in_the_first_kibibyte(tmp_path: Path, content: bytes) -> None:
    assert sniff(written(tmp_path, content)) is MediaType.PDF


@pytest.mark.parametrize(
    "content",
    [
        b"MZ\x00\x00" + bytes(60) + b"\n%PDF-1.4",
        b"\x7fELF" + b"\n%PDF-1.4",
        bytes(1024) + b"%PDF-1.4",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"GIF89a" + bytes(range(256)),
        bytes(range(256)) * 4,
        OLE + bytes(600),
        archive("a.txt"),
        archive("[Content_Types].xml", "xl/workbook.xml"),
        archive("[Content_Types].xml", "ppt/presentation.xml"),
        archive("word/document.xml"),
        archive("[Content_Types].xml", "ppt/presentation.xml")[:-30],
        b"PK\x03\x04plain words that look like a text",
        b"one\x00two",
    ],
)
def test_anything_else_is_unsupported(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnsupportedMedia) as refusal:
        sniff(written(tmp_path, content, "lesson.pdf"))
    assert isinstance(refusal.value, UnsupportedType)
    assert refusal.value.code == "unsupported_type"


@pytest.mark.parametrize("name", ["word/document.xml", "word/document2.xml"])
def test_a_docx_is_an_archive_that_names_its_parts(tmp_path: Path, name: str) -> None:
    content = archive("[Content_Types].xml", name, comment=b"a comment after the directory")
    assert sniff(written(tmp_path, content)) is MediaType.DOCX


def test_an_archive_of_very_many_entries_is_not_read(tmp_path: Path) -> None:
    names = ["[Content_Types].xml", "word/document.xml", *(f"word/media/image{n}.png" for n in range(20_000))]
    with pytest.raises(UnsupportedMedia):
        sniff(written(tmp_path, archive(*names)))


@pytest.mark.parametrize("keep", [100, 20_000])
def test_a_truncated_docx_is_let_in_to_fail_with_a_reason(tmp_path: Path, keep: int) -> None:
    content = write_docx(tmp_path / "whole.docx").read_bytes()[:keep]
    assert sniff(written(tmp_path, content)) is MediaType.DOCX


def test_an_encrypted_office_package_is_let_in_to_fail_with_a_reason(tmp_path: Path) -> None:
    content = OLE + bytes(2_000_000) + "EncryptedPackage".encode("utf-16-le")
    assert sniff(written(tmp_path, content)) is MediaType.DOCX


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.md", MediaType.MARKDOWN),
        ("a.MARKDOWN", MediaType.MARKDOWN),
        ("a.txt", MediaType.TEXT),
        ("a.pdf", MediaType.TEXT),
        ("a", MediaType.TEXT),
    ],
)
def test_the_name_decides_only_between_text_and_markdown(tmp_path: Path, name: str, media_type: MediaType) -> None:
    path = written(tmp_path, "# Amashyamba y’u Rwanda".encode())
    assert sniff(path, name=name) is media_type
    assert sniff(written(tmp_path, path.read_bytes(), name)) is media_type


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_text_may_be_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = "L’élève a étudié la géographie à l’école près de la forêt. " * 5
    assert sniff(written(tmp_path, text.encode(encoding))) is MediaType.TEXT


def test_a_text_that_speaks_of_the_header_is_a_text(tmp_path: Path) -> None:
    assert sniff(written(tmp_path, b"Each such file begins with %PDF-1.7 and a line end.")) is MediaType.TEXT


def test_a_character_cut_by_the_end_of_the_sample_does_no_harm(tmp_path: Path) -> None:
    assert sniff(written(tmp_path, b"a" * 65_535 + "é".encode() * 10)) is MediaType.TEXT


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.pdf", MediaType.PDF), ("a.docx", MediaType.DOCX), ("a.md", MediaType.MARKDOWN), ("a.xyz", MediaType.TEXT)],
)
def test_an_empty_file_is_what_its_name_says(tmp_path: Path, name: str, media_type: MediaType) -> None:
    assert sniff(written(tmp_path, b""), name=name) is media_type
