"""What a socket of `detail=text` receives: no gestures, and deltas joined to sentences, for weak links."""

import re
from collections.abc import Sequence
from typing import Final

from bwenge.chat.protocol import Animation, Delta, ServerFrame, Viseme

_SENTENCE_END: Final = re.compile(r"""[.!?…。！？؟][)\]"'”’»]*(?:\s|$)|\n""")
_MAX_JOINED: Final = 1_000


class SentenceJoiner:
    """Joins whole deltas until their text holds the end of a sentence.

    A joined delta carries the number of the last one in it, so a reader that has seen it has seen all up to there.
    Frames of another kind first let out what is held, so that the order of the turn stays.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._last: Delta | None = None

    def feed(self, frame: ServerFrame) -> Sequence[ServerFrame]:
        if isinstance(frame, Animation | Viseme):
            return ()
        if not isinstance(frame, Delta):
            return (*self._release(), frame)
        self._held.append(frame.text)
        self._last = frame
        joined = "".join(self._held)
        if len(joined) >= _MAX_JOINED or _SENTENCE_END.search(joined):
            return self._release()
        return ()

    def _release(self) -> Sequence[ServerFrame]:
        if self._last is None:
            return ()
        joined = self._last.model_copy(update={"text": "".join(self._held)})
        self._held.clear()
        self._last = None
        return (joined,)
