"""Markdown (CommonMark with tables) to passages."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bwenge.knowledge.parsing.base import BlockKind, ParseObserver, Passage
from bwenge.knowledge.parsing.cleaning import collapse
from bwenge.knowledge.parsing.text import read_text

_FRONT_MATTER: Final = re.compile(r"\A---[ \t]*\n.{0,10000}?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TAG: Final = re.compile(r"<!--.*?-->|</?[A-Za-z!?][^<>]*>", re.DOTALL)
_PROGRESS_EVERY: Final = 1000


def parse_markdown(path: Path, observer: ParseObserver, *, max_pages: int) -> Iterator[Passage]:
    """Marks are dropped and what they mark is kept; a unit of progress is one token of the parser."""
    del max_pages
    text = _FRONT_MATTER.sub("", read_text(path, observer))
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    reader = _Reader()
    for number, token in enumerate(tokens, start=1):
        yield from reader.read(token)
        if number % _PROGRESS_EVERY == 0 or number == len(tokens):
            observer.progress(number, len(tokens))


class _Reader:
    """Keeps what is open while the tokens pass: a heading, lists with their counters, a table's rows."""

    def __init__(self) -> None:
        self._level: int | None = None
        self._counters: list[int | None] = []
        self._marker = ""
        self._rows: list[list[str]] | None = None

    def read(self, token: Token) -> Iterator[Passage]:
        if token.type == "inline":
            yield from self._inline(plain(token.children or ()))
        elif token.type in {"fence", "code_block"}:
            yield Passage(token.content.strip("\n"), "code")
        elif token.type == "html_block":
            yield Passage(collapse(_TAG.sub(" ", token.content)))
        elif token.type == "table_close":
            yield from self._close_table()
        else:
            self._enter(token)

    def _enter(self, token: Token) -> None:
        if token.type == "heading_open":
            self._level = int(token.tag[1:])
        elif token.type == "heading_close":
            self._level = None
        elif token.type in {"bullet_list_open", "ordered_list_open"}:
            self._counters.append(int(token.attrGet("start") or 1) if token.type.startswith("ordered") else None)
        elif token.type in {"bullet_list_close", "ordered_list_close"}:
            self._counters.pop()
        elif token.type == "list_item_open":
            self._open_item()
        elif token.type == "table_open":
            self._rows = []
        elif token.type == "tr_open" and self._rows is not None:
            self._rows.append([])

    def _open_item(self) -> None:
        counter = self._counters[-1]
        self._marker = "- " if counter is None else f"{counter}. "
        if counter is not None:
            self._counters[-1] = counter + 1

    def _inline(self, text: str) -> Iterator[Passage]:
        if self._rows:
            self._rows[-1].append(" ".join(text.split()))
        elif self._level is not None:
            yield Passage(" ".join(text.split()), "heading", self._level)
        elif text.strip():
            kind: BlockKind = "list_item" if self._counters else "paragraph"
            yield Passage(self._marker + collapse(text), kind)
            self._marker = ""

    def _close_table(self) -> Iterator[Passage]:
        rows, self._rows = self._rows or [], None
        yield Passage("\n".join(" | ".join(row) for row in rows if any(row)), "table")


def plain(children: Sequence[Token]) -> str:
    """The text of inline tokens: of a link its words, of an image its description."""
    parts: list[str] = []
    for child in children:
        if child.type in {"softbreak", "hardbreak"}:
            parts.append(" " if child.type == "softbreak" else "\n")
        elif child.type == "image":
            parts.append(plain(child.children or ()))
        elif child.type in {"text", "code_inline", "text_special"}:
            parts.append(child.content)
    return "".join(parts)
