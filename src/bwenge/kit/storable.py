"""Text that PostgreSQL can hold: no NUL character and no lone surrogate, both of which valid JSON may carry."""

import re
from typing import Any, Final

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def require_storable(value: Any) -> None:
    """Raise ValueError if any string in a JSON-like value, however deeply nested, could not be stored."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if _UNSTORABLE.search(item):
                raise ValueError("text may not hold NUL characters or lone surrogates")
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot hold, for text that comes from documents and models."""
    return _UNSTORABLE.sub("", text)
