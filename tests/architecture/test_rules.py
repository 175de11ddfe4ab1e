"""The project keeps each rule; a violation is reported with its file and line."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.architecture import rules_code, rules_documents, rules_imports, rules_text
from tests.architecture.sources import ROOT

Rule = Callable[[Path], list[str]]

RULES: Final[tuple[Rule, ...]] = (
    rules_imports.front_doors,
    rules_imports.libraries,
    rules_imports.through_the_service,
    rules_imports.plain_contracts,
    rules_imports.kit_admission,
    rules_code.commits,
    rules_code.dependency_scopes,
    rules_code.sizes,
    rules_code.bags,
    rules_code.sleeps,
    rules_code.skips,
    rules_code.suppressions,
    rules_text.registries,
    rules_text.leftovers,
    rules_text.tracker_numbers,
    rules_text.data_directories,
    rules_documents.dependencies,
    rules_documents.decisions,
    rules_documents.skips_exist,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_file_breaks_the_rule(rule: Rule) -> None:
    violations = rule(ROOT)

    if violations:
        pytest.fail("\n".join(sorted(violations)), pytrace=False)
