"""What the rules let pass, and the forms of a violation that are easy to miss, on trees of a few files."""

from pathlib import Path

import pytest

from tests.architecture import rules_code, rules_documents, rules_imports, rules_text

Tree = dict[str, str]


def grown(root: Path, tree: Tree) -> Path:
    for path, text in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


FEATURES: Tree = {
    "src/bwenge/__init__.py": "",
    "src/bwenge/kit/__init__.py": "",
    "src/bwenge/kit/db.py": "",
    "src/bwenge/auth/__init__.py": "",
    "src/bwenge/auth/contract.py": "",
    "src/bwenge/auth/models.py": "",
    "src/bwenge/auth/names.py": "import re\n",
    "src/bwenge/providers/llm/__init__.py": "",
    "src/bwenge/providers/llm/base.py": "",
    "src/bwenge/providers/llm/openai_compatible.py": "",
}


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("chat/turns.py", "from bwenge.auth.contract import Members"),
        ("chat/turns.py", "from bwenge.auth import contract"),
        ("chat/turns.py", "from bwenge.kit import db"),
        ("chat/turns.py", "from bwenge.providers.llm import base"),
        ("chat/turns.py", "from . import turns"),
        ("apps/composition.py", "from bwenge.auth.models import User"),
        ("apps/composition.py", "from bwenge.providers.llm.openai_compatible import Model"),
        ("cli/ask.py", "from bwenge.apps import composition"),
        ("migrations/metadata.py", "import bwenge.auth.models"),
    ],
)
def test_a_front_door_is_open(tmp_path: Path, importer: str, statement: str) -> None:
    tree = FEATURES | {"src/bwenge/apps/composition.py": "", f"src/bwenge/{importer}": f"{statement}\n"}

    assert rules_imports.front_doors(grown(tmp_path, tree)) == []


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("chat/turns.py", "from bwenge.auth import models"),
        ("chat/turns.py", "from bwenge import auth"),
        ("chat/turns.py", "import bwenge.auth.models"),
        ("chat/turns.py", "from ..auth.models import User"),
        ("chat/turns.py", "def late() -> None:\n    from bwenge.auth.models import User"),
        ("chat/turns.py", "from bwenge.providers.llm import openai_compatible"),
        ("cli/ask.py", "from bwenge.auth.contract import Members"),
        ("migrations/metadata.py", "import bwenge.auth.names"),
    ],
)
def test_any_other_way_in_is_refused(tmp_path: Path, importer: str, statement: str) -> None:
    tree = FEATURES | {f"src/bwenge/{importer}": f"{statement}\n"}

    assert len(rules_imports.front_doors(grown(tmp_path, tree))) == 1


def test_a_contract_may_pass_on_a_function_that_is_plain_itself(tmp_path: Path) -> None:
    tree = FEATURES | {"src/bwenge/auth/contract.py": "from bwenge.auth.names import initials\n"}

    assert rules_imports.plain_contracts(grown(tmp_path, tree)) == []


def test_a_contract_may_not_pass_on_what_reaches_a_library(tmp_path: Path) -> None:
    tree = FEATURES | {
        "src/bwenge/auth/contract.py": "from bwenge.auth.names import initials\n",
        "src/bwenge/auth/names.py": "import numpy\n",
    }

    [violation] = rules_imports.plain_contracts(grown(tmp_path, tree))

    assert violation.startswith("src/bwenge/auth/names.py:1")


def test_a_part_of_kit_counts_kit_among_its_two_users(tmp_path: Path) -> None:
    tree = FEATURES | {
        "src/bwenge/kit/jobs/__init__.py": "from bwenge.kit import db\n",
        "src/bwenge/auth/service.py": "from bwenge.kit import db\nfrom bwenge.kit import jobs\n",
        "src/bwenge/chat/service.py": "from bwenge.kit import jobs\n",
    }

    assert rules_imports.kit_admission(grown(tmp_path, tree)) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f(attempt: object) -> None:\n    attempt.begin()\n",
        "from sqlalchemy.ext.asyncio import AsyncSession\n\ndef f(s: AsyncSession) -> None:\n    records.begin(s)\n",
    ],
)
def test_begin_is_an_ordinary_word_for_what_is_no_session(tmp_path: Path, text: str) -> None:
    assert rules_code.commits(grown(tmp_path, {"src/bwenge/chat/turns.py": text})) == []


def test_a_docstring_is_not_counted_in_its_function(tmp_path: Path) -> None:
    docstring = '    """Long.\n' + "\n" * 30 + '    """\n'
    body = "".join(f"    x{number} = {number}\n" for number in range(49))

    assert rules_code.sizes(grown(tmp_path, {"tools/a.py": f"def f() -> None:\n{docstring}{body}"})) == []


@pytest.mark.parametrize(
    "test",
    [
        "@pytest.mark.skipif(sys.platform != 'linux', reason='r')\ndef test_a() -> None: ...\n",
        "@pytest.mark.xfail(condition=sys.version_info < (3, 12), reason='r')\ndef test_a() -> None: ...\n",
        "def test_a() -> None:\n    if sys.platform != 'linux':\n        pytest.skip('r')\n",
        "needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='r')\n",
    ],
)
def test_a_skip_with_a_condition_is_allowed(tmp_path: Path, test: str) -> None:
    assert rules_code.skips(grown(tmp_path, {"tests/test_a.py": test})) == []


@pytest.mark.parametrize(
    "test",
    [
        "@pytest.mark.skip\ndef test_a() -> None: ...\n",
        "@pytest.mark.xfail(reason='r')\ndef test_a() -> None: ...\n",
        "@pytest.mark.skipif(True, reason='r')\ndef test_a() -> None: ...\n",
        "pytestmark = [pytest.mark.skip(reason='r')]\n",
        "pytest.skip('r', allow_module_level=True)\n",
        "class TestA:\n    def test_a(self) -> None:\n        with open('a'):\n            pytest.skip('r')\n",
    ],
)
def test_a_skip_without_one_is_not(tmp_path: Path, test: str) -> None:
    assert len(rules_code.skips(grown(tmp_path, {"tests/test_a.py": test}))) == 1


@pytest.mark.parametrize("comment", ["# noqa: S603  # our own script", "# noqa: S603 - our own script"])
def test_a_silenced_finding_with_its_reason_is_allowed(tmp_path: Path, comment: str) -> None:
    assert rules_code.suppressions(grown(tmp_path, {"tools/a.py": f"x = 1  {comment}\n"})) == []


@pytest.mark.parametrize("comment", ["# noqa", "# noqa: S603", "# type: ignore", "# type: ignore[arg-type]"])
def test_a_silenced_finding_without_code_or_reason_is_not(tmp_path: Path, comment: str) -> None:
    assert len(rules_code.suppressions(grown(tmp_path, {"tools/a.py": f"x = 1  {comment}\n"}))) == 1


def test_the_option_that_leaves_addresses_out_is_no_address(tmp_path: Path) -> None:
    assert rules_text.registries(grown(tmp_path, {"Makefile": "uv pip compile --no-emit-index-url\n"})) == []


def test_a_file_that_is_not_text_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\0\1 FIX" + b"ME")

    assert rules_text.leftovers(tmp_path) == []


def test_a_dependency_without_a_line_and_one_of_a_refused_licence_are_found(tmp_path: Path) -> None:
    tree = {
        "pyproject.toml": '[project]\ndependencies = ["a[x]>=1", "b"]\n[dependency-groups]\ndev = ["c"]\n',
        "docs/dependencies.md": "| `a` | needed | MIT |\n| `b` | needed | AGPL-3.0 |\n",
    }

    violations = rules_documents.dependencies(grown(tmp_path, tree))

    assert [violation.split(": ")[1].split()[0] for violation in violations] == ["c", "b"]


YIELDING: Tree = {"src/bwenge/kit/sessions.py": "async def session():\n    yield 1\n\n\ndef plain():\n    return 1\n"}


@pytest.mark.parametrize(
    "depends",
    [
        'Depends(session, scope="function")',
        'Depends(sessions.session, scope="function")',
        "Depends(plain)",
        "Depends()",
    ],
)
def test_a_dependency_that_ends_before_the_response_is_no_violation(tmp_path: Path, depends: str) -> None:
    tree = YIELDING | {"src/bwenge/chat/routes.py": f"x = {depends}\n"}

    assert rules_code.dependency_scopes(grown(tmp_path, tree)) == []


@pytest.mark.parametrize(
    "depends",
    [
        "Depends(session)",
        "fastapi.Depends(session)",
        "Depends(dependency=session)",
        "Depends(sessions.session)",
        "Depends(session())",
        'Security(session, scope="request")',
    ],
)
def test_a_dependency_that_ends_after_the_response_is_a_violation(tmp_path: Path, depends: str) -> None:
    tree = YIELDING | {"src/bwenge/chat/routes.py": f"x = {depends}\n"}

    assert len(rules_code.dependency_scopes(grown(tmp_path, tree))) == 1
