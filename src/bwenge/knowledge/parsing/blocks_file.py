"""The file of blocks between the parsing process and its parent: JSON Lines, one array per block."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from bwenge.knowledge.parsing.base import (
    BLOCK_KINDS,
    MAX_BLOCK_CHARS,
    MAX_HEADING_LEVEL,
    Block,
    FailureCode,
    ParseFailure,
)

_MAX_LINE_BYTES: Final = MAX_BLOCK_CHARS * 6 + 1024
_MIB: Final = 1024 * 1024


def write_blocks(path: Path, blocks: Iterable[Block], *, max_bytes: int, max_blocks: int) -> int:
    """Writes the fields of each block in order; returns how many there are.

    Raises:
        ParseFailure: `too_large` or `too_complex` past a bound.
    """
    count = written = 0
    with path.open("wb") as file:
        for block in blocks:
            fields = (block.text, block.kind, block.level, block.page, block.char_start, block.char_end)
            line = json.dumps(fields, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"
            count += 1
            written += len(line)
            if written > max_bytes:
                raise ParseFailure(
                    FailureCode.TOO_LARGE, f"The document holds more than {max_bytes // _MIB} MiB of text"
                )
            if count > max_blocks:
                raise ParseFailure(FailureCode.TOO_COMPLEX, f"The document has more than {max_blocks} paragraphs")
            file.write(line)
    return count


def read_blocks(path: Path) -> Iterator[Block]:
    """Blocks one at a time, each checked, for a parser that was taken over by its document may have written them.

    Raises:
        ParseFailure: `worker_lost` for a line that no sound worker writes.
    """
    position = 0
    with path.open("rb") as file:
        while line := file.readline(_MAX_LINE_BYTES):
            block = _block(line)
            if block is None or block.char_start < position:
                raise ParseFailure(FailureCode.WORKER_LOST, "What was read from the document is damaged")
            position = block.char_end
            yield block


def _block(line: bytes) -> Block | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, list) or len(fields) != 6:
        return None
    text, kind, level, page, start, end = fields
    if not isinstance(text, str) or not isinstance(kind, str) or kind not in BLOCK_KINDS:
        return None
    if not _is_count(start) or not _is_count(end) or end - start != len(text):
        return None
    if not _is_optional(level, MAX_HEADING_LEVEL) or not _is_optional(page, None):
        return None
    return Block(*fields)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_optional(value: Any, most: int | None) -> bool:
    return value is None or (type(value) is int and value >= 1 and (most is None or value <= most))
