"""Rules that keep the documents beside the code true. Each takes the root and returns "path:line: what is wrong"."""

import re
import tomllib
from pathlib import Path
from typing import Final

from tests.architecture.sources import modules
from tests.support.skip_gate import allowed_skips

DEPENDENCIES: Final = Path("docs/dependencies.md")
DECISIONS: Final = Path("docs/decisions")
ALLOWED_SKIPS: Final = Path("tests/allowed_skips.toml")

_ROW: Final = re.compile(r"^\| `(?P<name>[\w.-]+)` \|(?P<why>[^|]*)\|(?P<licence>[^|]*)\|$", re.MULTILINE)
_NAME: Final = re.compile(r"[\w.-]+")
_DECISION_LINK: Final = re.compile(r"\((\d{4}-[\w-]+\.md)\)")


def dependencies(root: Path) -> list[str]:
    """docs/dependencies.md and pyproject.toml name the same packages, each with a reason and a licence we may use."""
    text = (root / DEPENDENCIES).read_text(encoding="utf-8")
    rows = {row["name"]: row for row in _ROW.finditer(text)}
    declared = _declared(root)
    violations = [f"{DEPENDENCIES}:1: {name} is declared but has no line" for name in sorted(declared - rows.keys())]
    for name, row in rows.items():
        place = f"{DEPENDENCIES}:{text.count(chr(10), 0, row.start()) + 1}"
        if name not in declared:
            violations.append(f"{place}: {name} is not declared in pyproject.toml")
        if not row["why"].strip() or not row["licence"].strip():
            violations.append(f"{place}: {name} has no reason or no licence")
        if re.search(r"(?<!L)GPL", row["licence"]):
            violations.append(f"{place}: {name} has a licence that we do not use")
    return violations


def _declared(root: Path) -> set[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    tables = [project["project"]["dependencies"], *project["project"].get("optional-dependencies", {}).values()]
    tables += project["dependency-groups"].values()
    return {found.group() for table in tables for line in table if (found := _NAME.match(line))}


def decisions(root: Path) -> list[str]:
    """The index of decisions lists each record once, and records are numbered without gaps."""
    index = DECISIONS / "README.md"
    listed = _DECISION_LINK.findall((root / index).read_text(encoding="utf-8"))
    present = sorted(path.name for path in (root / DECISIONS).glob("[0-9]*.md"))
    violations = [f"{DECISIONS / name}:1: not in the index" for name in present if name not in listed]
    violations += [f"{index}:1: lists {name}, which is not there" for name in listed if name not in present]
    numbers = [int(name[:4]) for name in present]
    if numbers != list(range(1, len(numbers) + 1)):
        violations.append(f"{index}:1: records are numbered {numbers}")
    return violations


def skips_exist(root: Path) -> list[str]:
    """Each allowed skip names a test that is there."""
    functions = {
        (str(module.path), name) for module in modules(root, below=("tests",)) for name, _ in module.identifiers()
    }
    files = {path for path, _ in functions}
    return [
        f"{ALLOWED_SKIPS}:1: there is no {skip.test}"
        for skip in allowed_skips(root / ALLOWED_SKIPS)
        if (parts := skip.test.split("::"))[0] not in files
        or not all((parts[0], part) in functions for part in parts[1:])
    ]
