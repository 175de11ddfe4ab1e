"""Citation markers in a stream of text: `[1]` stays when source 1 exists, invented numbers vanish.

A marker is a bracket that holds nothing but numbers: `[1]`, `[1, 3]`, `[2-4]`, or the lenticular `【1】` that some
models write, also with a dagger and a place after the number. Every other bracket is text, and so is everything in a
Markdown code block. In inline code only an index is text, as in `a[10]`: a backtick that nothing closes is an
apostrophe or a quotation mark, and the rest of its line is no code at all.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MAX_HELD = 32
"""Characters, brackets included; a longer bracket is not a marker."""

_CLOSER: Final = {"[": "]", "【": "】"}
_DAGGER = "†"
_BLANK = " \u00a0\u202f\t"
_MAY_FOLLOW: Final = frozenset("0123456789,;-\u2013" + _BLANK)
_NUMBER = r"[0-9]+"
_NUMBERS = re.compile(rf"[{_BLANK}]*{_NUMBER}(?:[{_BLANK}]*[,;\u2013-][{_BLANK}]*{_NUMBER})*[{_BLANK}]*")
_SPAN = re.compile(rf"({_NUMBER})(?:[{_BLANK}]*[\u2013-][{_BLANK}]*({_NUMBER}))?")
_ANYWHERE = re.compile(rf"\[{_NUMBERS.pattern}\]|【{_NUMBERS.pattern}(?:{_DAGGER}[^][【】\n]*)?】")
# Tried at the first blank of a run only: at each of them, a long run would take quadratic time.
_BLANK_BEFORE = re.compile(rf"(?:(?<![{_BLANK}])[{_BLANK}]++)?(?:{_ANYWHERE.pattern})")
_MAY_BE_INDEXED: Final = frozenset("_)]'\"")


def remove_markers(text: str) -> str:
    """Text that carries no marker of its own, code or not, together with the blanks before what was removed."""
    while (shorter := _BLANK_BEFORE.sub("", text)) != text:
        text = shorter
    return text


def spell_markers(text: str) -> str:
    """Text whose own bracketed numbers stay readable and are no markers: `[0, 1]` stands in full-width brackets."""
    return _ANYWHERE.sub(lambda match: f"\uff3b{match[0][1:-1]}\uff3d", text)


def disarm_markers(text: str) -> str:
    """Text whose own bracketed numbers stand in round brackets: `[3]` becomes `(3)`."""
    while (disarmed := _ANYWHERE.sub(lambda match: f"({match[0][1:-1]})", text)) != text:
        text = disarmed
    return text


class MarkerFilter:
    """Passes text through as it comes and holds it back only from an opening bracket until the marker is settled.

    The output does not depend on how the input was cut. Grouped markers are written one by one, `[1, 2]` as `[1][2]`,
    without those that are not in `valid`.
    """

    def __init__(self, valid: Collection[int]) -> None:
        self._valid = sorted(valid)
        self._held = ""
        self._used: dict[int, None] = {}
        self._code = _CodeTracker()
        self._last = ""
        # The output ends with an opening bracket and what could go on as a marker, as in "[[7]1]" once the 7 is met.
        self._tail_is_open = False
        self._follows_marker = False
        self._swallows_blank = False

    @property
    def used(self) -> tuple[int, ...]:
        """Markers in the output, in the order in which they first appeared."""
        return tuple(self._used)

    def feed(self, delta: str) -> str:
        return "".join(map(self._take, delta))

    def finish(self) -> str:
        """What was still held at the end: an unclosed bracket, which is text."""
        held, self._held = self._held, ""
        return self._emit(held)

    def _take(self, character: str) -> str:
        if not self._held:
            return self._begin(character)
        if character == _CLOSER[self._held[0]]:
            held, self._held = self._held, ""
            return self._settle(held + character)
        if self._may_hold(character):
            self._held += character
            return ""
        held, self._held = self._held, ""
        released = self._emit(held)
        self._tail_is_open = True
        return released + self._begin(character)

    def _may_hold(self, character: str) -> bool:
        if len(self._held) + 1 >= MAX_HELD:
            return False
        if self._held[0] == "【" and (character == _DAGGER or _DAGGER in self._held):
            return character not in "[]【\n"
        return character in _MAY_FOLLOW

    def _begin(self, character: str) -> str:
        if self._swallows_blank and character == " ":
            self._swallows_blank = False
            return ""
        if character in _CLOSER and not self._is_code(character):
            self._held = character
            return ""
        return self._emit(character)

    def _is_code(self, bracket: str) -> bool:
        """Whether the bracket that comes now belongs to code, whatever stands in it."""
        match self._code.before(bracket):
            case CodeKind.BLOCK:
                return True
            case CodeKind.INLINE:
                is_indexed = self._last.isalnum() or self._last in _MAY_BE_INDEXED
                return is_indexed and not self._follows_marker
            case None:
                return False

    def _settle(self, marker: str) -> str:
        inner = marker[1:-1].split(_DAGGER, maxsplit=1)[0]
        if not _NUMBERS.fullmatch(inner):
            return self._emit(marker)
        numbers = self._known_numbers(inner)
        if numbers:
            self._used.update(dict.fromkeys(numbers))
            written = self._emit("".join(f"[{number}]" for number in numbers))
            self._follows_marker = True
            return written
        if self._tail_is_open:
            # Without these brackets the text on both sides would join to another marker.
            return self._emit(marker[0] + marker[-1])
        self._swallows_blank = not self._last or self._last.isspace()
        return ""

    def _known_numbers(self, inner: str) -> Sequence[int]:
        numbers: dict[int, None] = {}
        for low, high in _SPAN.findall(inner):
            first, last = int(low), int(high or low)
            numbers.update(dict.fromkeys(number for number in self._valid if first <= number <= last))
        return list(numbers)

    def _emit(self, text: str) -> str:
        if text:
            self._code.read(text)
            self._last = text[-1]
            self._tail_is_open = False
            self._follows_marker = False
            self._swallows_blank = False
        return text


class CodeKind(Enum):
    BLOCK = auto()
    INLINE = auto()  # as far as can be told before its line ends


@dataclass(slots=True)
class _CodeTracker:
    """Whether the text read so far ends inside Markdown code: a fence, or inline code, which ends with its line."""

    _fence: str = ""
    _is_fence_line: bool = False
    _inline: int = 0
    _run: str = ""
    _run_starts_line: bool = False
    _is_line_start: bool = True

    def before(self, character: str) -> CodeKind | None:
        """What kind of code `character`, which is not read yet, would be."""
        if self._run and character != self._run[0]:
            self._end_run()
        if self._fence:
            return CodeKind.BLOCK
        return CodeKind.INLINE if self._inline else None

    def read(self, text: str) -> None:
        for character in text:
            self._read(character)

    def _read(self, character: str) -> None:
        if self._run and character != self._run[0]:
            self._end_run()
        if character in "`~":
            self._run_starts_line = self._run_starts_line if self._run else self._is_line_start
            self._run += character
            self._is_line_start = False
        elif character == "\n":
            self._is_line_start = True
            self._is_fence_line = False
            self._inline = 0
        elif not character.isspace():
            self._is_line_start = False

    def _end_run(self) -> None:
        run, self._run = self._run, ""
        if self._fence:
            # A run on the line of the opening one makes both inline code: the words after a fence hold no backtick.
            if run.startswith(self._fence) and (self._run_starts_line or self._is_fence_line):
                self._fence = ""
        elif self._run_starts_line and len(run) >= 3:
            self._fence = run
            self._is_fence_line = True
        elif run[0] == "`":
            self._inline = _toggled(self._inline, len(run))


def _toggled(inline: int, run_length: int) -> int:
    """Inline code that a run of n backticks opens is closed by the next run of n."""
    if inline == 0:
        return run_length
    return 0 if inline == run_length else inline
