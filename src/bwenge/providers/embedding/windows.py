"""Long texts as overlapping windows that a model reads whole."""

from bwenge.providers.embedding.base import Tokenizer


def split_windows(text: str, tokenizer: Tokenizer, max_tokens: int) -> list[str]:
    """The texts of `window_spans`: the whole of a text that fits, else its windows in order."""
    return [text[start:end] for start, end in window_spans(text, tokenizer, max_tokens)]


def window_spans(text: str, tokenizer: Tokenizer, max_tokens: int) -> list[tuple[int, int]]:
    """The least number of even windows that together hold every word piece, as half-open character spans.

    A text that fits is one window. Otherwise all windows have as many pieces; the slack of the last one is spread as
    overlap, so 500 pieces under a limit of 254 give [0, 254) and [246, 500). A window is recounted as a text of its
    own, because cutting inside a word or inside a decomposed character changes its pieces; where one grows past the
    limit, all are made narrower.

    Raises:
        ValueError: `max_tokens` is below one, or below the number of pieces of a single character.
    """
    if max_tokens < 1:
        raise ValueError("max_tokens must be at least 1")
    pieces = tokenizer.offsets(text)
    if len(pieces) <= max_tokens:
        return [(0, len(text))]
    width = max_tokens
    while True:
        spans = [(pieces[start][0], pieces[start + width - 1][1]) for start in _even_starts(len(pieces), width=width)]
        excess = max(tokenizer.count(text[start:end]) for start, end in spans) - max_tokens
        if excess <= 0:
            return spans
        if width == 1:
            raise ValueError(f"one character is {max_tokens + excess} word pieces, the limit is {max_tokens}")
        width = max(1, width - excess)


def _even_starts(length: int, *, width: int) -> list[int]:
    """Where windows of `width` start so that the fewest of them cover [0, length); length exceeds width."""
    gaps = -(-length // width) - 1
    return [index * (length - width) // gaps for index in range(gaps + 1)]
