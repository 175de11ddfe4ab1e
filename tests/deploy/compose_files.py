"""Compose files as `docker compose` reads them, as far as ours go: variables filled in, overrides merged."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.architecture.sources import ROOT

DEPLOY: Final = ROOT / "deploy"
BASE: Final = DEPLOY / "compose.yaml"
OVERRIDES: Final = (DEPLOY / "compose.dev.yaml", DEPLOY / "compose.staging.yaml")

_VARIABLE: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<operator>:[?-])(?P<word>[^}]*))?\})")
_ADDED: Final = frozenset({"ports", "networks", "tmpfs", "volumes", "cap_drop", "security_opt"})
"""Lists that an override adds to; of others, such as commands, it replaces the whole."""

Document = dict[str, Any]


class MissingVariable(LookupError):
    """A variable that must be set is not."""


def load(path: Path) -> Document:
    """The file with its anchors resolved, and its variables as they stand."""
    document: Document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def variables(path: Path) -> dict[str, str | None]:
    """The variables that the file reads, with what each is where it is not set; None for what must be set."""
    found: dict[str, str | None] = {}
    for variable in _VARIABLE.finditer(path.read_text(encoding="utf-8")):
        if variable["name"]:
            found[variable["name"]] = None if variable["operator"] == ":?" else variable["word"] or ""
    return found


def filled(node: Any, values: Mapping[str, str]) -> Any:
    """The document with the values in the places of their variables.

    Raises:
        MissingVariable
    """
    match node:
        case dict():
            return {key: filled(value, values) for key, value in node.items()}
        case list():
            return [filled(value, values) for value in node]
        case str():
            return _VARIABLE.sub(lambda variable: _value(variable, values), node)
        case _:
            return node


def _value(variable: re.Match[str], values: Mapping[str, str]) -> str:
    if variable["dollar"]:
        return "$"
    value = values.get(variable["name"], "")
    if not value and variable["operator"] == ":?":
        raise MissingVariable(variable["name"])
    return value or variable["word"] or ""


def merged(base: Document, override: Document) -> Document:
    """The base with what the override changes or adds."""
    result = dict(base)
    for key, value in override.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged(before, value)
        elif key in _ADDED and isinstance(before, list):
            result[key] = [*before, *(entry for entry in value if entry not in before)]
        else:
            result[key] = value
    return result
