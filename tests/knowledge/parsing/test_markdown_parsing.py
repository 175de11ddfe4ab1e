from pathlib import Path

import pytest

from bwenge.knowledge.parsing.base import Passage
from bwenge.knowledge.parsing.markdown import parse_markdown
from tests.knowledge.parsing.sample_files import Observed


def parsed(tmp_path: Path, text: str) -> list[Passage]:
    path = tmp_path / "a.md"
    path.write_text(text, encoding="utf-8")
    return list(parse_markdown(path, Observed(), max_pages=1))


def test_headings_have_levels(tmp_path: Path) -> None:
    assert parsed(tmp_path, "# Soil\n\nText.\n\nClay\n----\n\n###### Deep") == [
        Passage("Soil", "heading", 1),
        Passage("Text."),
        Passage("Clay", "heading", 2),
        Passage("Deep", "heading", 6),
    ]


def test_marks_are_dropped_and_what_they_mark_is_kept(tmp_path: Path) -> None:
    text = "A **bold** [link](https://example.org), `code`, ![a picture](x.png)\nand &amp; more"
    assert parsed(tmp_path, text) == [Passage("A bold link, code, a picture and & more")]


def test_lists_keep_their_numbers_and_bullets(tmp_path: Path) -> None:
    text = "3. third\n4. fourth\n   - inner\n5. fifth\n\n   goes on"
    assert [passage.text for passage in parsed(tmp_path, text)] == [
        "3. third", "4. fourth", "- inner", "5. fifth", "goes on",
    ]  # fmt: skip


def test_items_of_a_list_are_list_items(tmp_path: Path) -> None:
    assert {passage.kind for passage in parsed(tmp_path, "- a\n- b")} == {"list_item"}


def test_tables_become_rows(tmp_path: Path) -> None:
    table = "| Part | Use |\n|---|---|\n| *Leaf* | Breathing |\n| Root | |"
    assert parsed(tmp_path, table) == [Passage("Part | Use\nLeaf | Breathing\nRoot | ", "table")]


@pytest.mark.parametrize("code", ["```python\nx = 1\n\ny = 2\n```", "    x = 1\n\n    y = 2"])
def test_code_is_kept_as_it_stands(tmp_path: Path, code: str) -> None:
    assert parsed(tmp_path, code) == [Passage("x = 1\n\ny = 2", "code")]


def test_html_is_read_without_its_tags(tmp_path: Path) -> None:
    passages = parsed(tmp_path, "<div class='a'>\nInside <b>it</b>\n<!-- not this -->\n</div>")
    assert [" ".join(passage.text.split()) for passage in passages] == ["Inside it"]


def test_front_matter_is_left_out(tmp_path: Path) -> None:
    assert parsed(tmp_path, "---\ntitle: x\ndraft: true\n---\n# Soil") == [Passage("Soil", "heading", 1)]


def test_a_rule_at_the_beginning_is_not_front_matter(tmp_path: Path) -> None:
    assert [passage.text for passage in parsed(tmp_path, "---\n\nText.")] == ["Text."]
