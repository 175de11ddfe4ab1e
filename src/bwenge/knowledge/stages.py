"""How much of a source's whole work is done when a stage begins and ends, from where the time goes on a book."""

from typing import Final

STAGE_SHARE: Final = {
    "extracting": (0.0, 0.1),
    "chunking": (0.1, 0.15),
    "embedding": (0.15, 0.97),
    "indexing": (0.97, 1.0),
}
