"""How a language model says that the sources do not hold the answer, recognised while its text is streamed."""

import re

DECLINED = "NOT_IN_SOURCES"
"""What the prompt asks the model to write instead of an answer."""

_DECORATION = " \t\r\n`*_\"'“”«»([{<"
_LENIENT = re.compile(r"[ _-]")


class DeclineGate:
    """Lets text through unless it is, or goes on with, the word that declines; no part of that word gets out.

    The beginning is held back while it could still become the word, whatever quotes or brackets stand before it.
    Later only the characters that could begin the word are held. After the word everything is dropped.
    """

    def __init__(self) -> None:
        self._held = ""
        self._is_open = False
        self._is_declined = False

    @property
    def is_declined(self) -> bool:
        return self._is_declined

    def feed(self, delta: str) -> str:
        if self._is_declined:
            return ""
        self._held += delta
        if not self._is_open:
            self._settle_beginning()
            if not self._is_open:
                return ""
        return self._release()

    def finish(self) -> str:
        """The rest of an answer that ended before it was settled, such as `NO`."""
        if self._is_declined:
            return ""
        held, self._held = self._held, ""
        return held

    def _settle_beginning(self) -> None:
        beginning = _comparable(self._held.lstrip(_DECORATION))
        if beginning.startswith(_comparable(DECLINED)):
            self._is_declined = True
        elif not _comparable(DECLINED).startswith(beginning):
            self._is_open = True

    def _release(self) -> str:
        before, word, _ = self._held.partition(DECLINED)
        if word:
            self._is_declined = True
            self._held = ""
            return before
        kept = _overlap(self._held)
        released = self._held[: len(self._held) - kept]
        self._held = self._held[len(released) :]
        return released


def _comparable(text: str) -> str:
    return _LENIENT.sub(" ", text[: len(DECLINED)]).casefold()


def _overlap(text: str) -> int:
    """Length of the longest end of the text that begins the word."""
    longest = min(len(text), len(DECLINED) - 1)
    return next((length for length in range(longest, 0, -1) if DECLINED.startswith(text[-length:])), 0)
