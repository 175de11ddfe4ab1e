from pathlib import Path

import pytest

from bwenge.knowledge.parsing.base import FailureCode, ParseFailure, Passage
from bwenge.knowledge.parsing.text import parse_text
from tests.knowledge.parsing.sample_files import Observed


def parsed(path: Path, content: str | bytes, observer: Observed | None = None) -> list[Passage]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(parse_text(path, observer or Observed(), max_pages=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.txt"


def test_blank_lines_and_form_feeds_part_paragraphs(path: Path) -> None:
    assert [passage.text for passage in parsed(path, "One.\r\n \r\nTwo.\fThree.")] == ["One.", "Two.", "Three."]


def test_lines_broken_by_width_are_joined(path: Path) -> None:
    lines = "The river rises in the hills of the south and\nflows to the lake in the north of the country,\nslowly."
    assert [passage.text for passage in parsed(path, lines)] == [lines.replace("\n", " ")]


def test_lines_of_verse_are_kept(path: Path) -> None:
    verse = "Rwanda nziza\ngihugu cyacu"
    assert [passage.text for passage in parsed(path, verse)] == [verse]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("Chapter 3: Soil", 1),
        ("CHAPITRE IV", 1),
        ("Isomo rya 2", None),
        ("Igice 2", 1),
        ("Sura ya 5", 1),
        ("1.2 Layers of soil", 2),
        ("1.2.3 Clay", 3),
        ("1. Wash your hands", None),
        ("SAFETY FIRST", 2),
        ("It was late.", None),
        ("Just a line", None),
    ],
)
def test_a_line_alone_is_a_heading_when_it_looks_like_one(path: Path, line: str, level: int | None) -> None:
    (first, _) = parsed(path, f"{line}\n\nText follows.")
    assert (first.kind == "heading", first.level) == (level is not None, level)


def test_an_underlined_line_is_a_heading(path: Path) -> None:
    assert parsed(path, "Soil\n====\nIt is brown.") == [Passage("Soil", "heading", 1), Passage("It is brown.")]


def test_list_items_are_told_apart(path: Path) -> None:
    assert parsed(path, "Bring:\n- a pen\n- a book") == [
        Passage("Bring:"),
        Passage("- a pen", "list_item"),
        Passage("- a book", "list_item"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_recognised(path: Path, encoding: str) -> None:
    text = "L’élève a étudié la géographie à l’école près de la forêt. " * 5
    assert [passage.text for passage in parsed(path, text.encode(encoding))] == [text.strip()]


def test_damaged_utf8_is_read_with_a_warning(path: Path) -> None:
    observer = Observed()
    content = "Amashyamba y’u Rwanda – ".encode() * 20 + b"\xff end"
    assert parsed(path, content, observer)[0].text.endswith("\ufffd end")
    assert [warning.code for warning in observer.warnings] == ["undecodable_characters"]


def test_binary_content_is_unreadable(path: Path) -> None:
    with pytest.raises(ParseFailure) as failure:
        parsed(path, bytes(range(256)))
    assert failure.value.code is FailureCode.UNREADABLE


def test_progress_ends_at_the_last_paragraph(path: Path) -> None:
    observer = Observed()
    parsed(path, "One.\n\n" * 1200, observer)
    assert observer.steps == [(500, 1201), (1000, 1201), (1201, 1201)]
