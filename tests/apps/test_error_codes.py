"""The published list of error codes is the list that the code can give."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Final

import bwenge
from bwenge.chat import protocol
from bwenge.kit.errors import BwengeError
from bwenge.kit.http import problems
from bwenge.knowledge.parsing.base import FailureCode

PAGE: Final = Path(__file__).parents[2] / "docs" / "errors.md"
FRAMEWORK: Final = {*problems._CODE_OF_STATUS.values(), "http_error"}


def codes_of_errors() -> set[str]:
    for module in pkgutil.walk_packages(bwenge.__path__, "bwenge."):
        if ".migrations" not in module.name and not module.name.endswith(("__main__", ".worker", ".as_user")):
            importlib.import_module(module.name)
    waiting, codes = [BwengeError], set[str]()
    while waiting:
        kind = waiting.pop()
        if kind.__module__.startswith("bwenge."):
            codes.add(kind.code)
        waiting.extend(kind.__subclasses__())
    return codes


def test_the_page_lists_each_code_that_a_client_can_meet() -> None:
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == codes_of_errors() | FRAMEWORK | protocol._CODES


def test_the_page_lists_each_reason_for_which_extraction_fails() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{code.value}`" in text for code in FailureCode)
