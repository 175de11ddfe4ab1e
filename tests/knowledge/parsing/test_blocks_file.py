import json
from pathlib import Path
from typing import Any

import pytest

from bwenge.knowledge.parsing.base import Block, FailureCode, ParseFailure
from bwenge.knowledge.parsing.blocks_file import read_blocks, write_blocks

BLOCKS = [Block("Soil", "heading", 1, 2, 0, 4), Block("It is “brown”.\nAlways.", "paragraph", None, 3, 6, 28)]


def write(path: Path, blocks: list[Block], *, max_bytes: int = 10_000, max_blocks: int = 10) -> int:
    return write_blocks(path, blocks, max_bytes=max_bytes, max_blocks=max_blocks)


def test_blocks_come_back_as_they_were(tmp_path: Path) -> None:
    assert write(tmp_path / "b", BLOCKS) == 2
    assert list(read_blocks(tmp_path / "b")) == BLOCKS


@pytest.mark.parametrize(
    ("bounds", "code"),
    [({"max_bytes": 60}, FailureCode.TOO_LARGE), ({"max_blocks": 1}, FailureCode.TOO_COMPLEX)],
)
def test_output_is_bounded(tmp_path: Path, bounds: dict[str, int], code: FailureCode) -> None:
    with pytest.raises(ParseFailure) as failure:
        write(tmp_path / "b", BLOCKS, **bounds)
    assert failure.value.code is code


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "{}",
        json.dumps(["Soil", "heading", 1, 2, 0]),
        json.dumps(["Soil", "script", 1, 2, 0, 4]),
        json.dumps(["Soil", "heading", 7, 2, 0, 4]),
        json.dumps(["Soil", "heading", 1, 0, 0, 4]),
        json.dumps(["Soil", "heading", 1, 2, 0, 5]),
        json.dumps(["Soil", "heading", True, 2, 0, 4]),
        json.dumps([1, "heading", 1, 2, 0, 4]),
        json.dumps(["Soil", ["heading"], 1, 2, 0, 4]),
    ],
)
def test_a_line_that_no_sound_worker_writes_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "b").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ParseFailure) as failure:
        list(read_blocks(tmp_path / "b"))
    assert failure.value.code is FailureCode.WORKER_LOST


def test_blocks_that_go_back_in_the_text_are_refused(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Soil", "paragraph", None, None, 4, 8], ["Soil", "paragraph", None, None, 0, 4]]
    (tmp_path / "b").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(ParseFailure):
        list(read_blocks(tmp_path / "b"))
