"""Rules about the text of every committed file. Each takes the root and returns "path:line: what is wrong".

The patterns are written so that they do not match themselves.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from tests.architecture.sources import project_files

_REGISTRY: Final = re.compile(
    r"pypi[.](?:org|python)|pythonhosted[.]org|registry[.](?:npmjs|yarnpkg)|npmjs[.](?:com|org)|(?:deb|security)[.]debian[.]org"
    r"|(?:static|index)[.]crates[.]io|proxy[.]golang[.]org|rubygems[.]org|(?:conda|repo)[.]anaconda"
    r"|(?<!emit-)index[-_]url|tool[.]uv[.]index|find[-_]links\s*=|trusted[-_]host\s*=|registry\s*=\s*['\"]?https?:"
    r"|https?://\S+/simple/?(?:\s|['\"]|$)",
    re.IGNORECASE,
)
_LEFTOVER: Final = re.compile(r"\b(?:T[O]DO|FIX[M]E|X{3}|H[A]CK)\b")
_OF_DATA: Final = frozenset({"secret.key", "signing.json", "demo.json", "process.lock", "redis.conf"})
_TRACKER: Final = re.compile(
    r"\bissues?\s+#?\d+\b|\bissue\s*#|\b(?:fix(?:es)?|closes?|see|refs?)\s+#\d+", re.IGNORECASE
)


def registries(root: Path) -> list[str]:
    """Where packages come from is the machine's business: no file names a registry or an index."""
    return list(_matches(root, _REGISTRY, "names a package registry"))


def leftovers(root: Path) -> list[str]:
    return list(_matches(root, _LEFTOVER, "a note about work that was left"))


def tracker_numbers(root: Path) -> list[str]:
    """A reason stands in the text itself; numbers of a tracker say nothing to whoever does not have it."""
    return list(_matches(root, _TRACKER, "refers to a tracker by number"))


def data_directories(root: Path) -> list[str]:
    """No file is part of a data directory: those hold secrets."""
    return [f"{path}:1: belongs to a data directory" for path in project_files(root) if path.name in _OF_DATA]


def _matches(root: Path, pattern: re.Pattern[str], reason: str) -> Iterator[str]:
    for path in project_files(root):
        text = _text(root / path)
        for found in pattern.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{path}:{line}: {reason}: {found.group().strip()}"


@lru_cache(maxsize=4096)
def _text(path: Path) -> str:
    """The file's text, empty for what is not text."""
    content = path.read_bytes()
    return "" if b"\0" in content[:8192] else content.decode("utf-8", errors="replace")
