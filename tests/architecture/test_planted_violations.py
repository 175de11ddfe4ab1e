"""Each rule of `make check` is seen to fail: one violation planted in a copy of the project, one target of make run.

A rule that cannot fail is no rule, so every plant names the words and the place that the failing output must hold.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.sources import ROOT, project_files

pytestmark = pytest.mark.slow_architecture

FEATURE: Final = "src/bwenge/learning"
"""A feature of the stack; each plant writes modules of its own there, beside whatever the feature has."""

PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "BWENGE_TEST_DATABASE_URL")


@dataclass(frozen=True)
class Plant:
    """Files to write into a copy (appended where they exist), the target that must fail, and what it must print."""

    name: str
    target: str
    files: dict[str, str]
    says: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def module(name: str, text: str) -> dict[str, str]:
    return {f"{FEATURE}/__init__.py": "", f"{FEATURE}/{name}.py": text}


def lines(count: int, *, indent: str = "") -> str:
    return "".join(f"{indent}x{number} = {number}\n" for number in range(count))


IMPORTS: Final = (
    Plant(
        "an upward import",
        "imports",
        {"src/bwenge/kit/ids.py": "from bwenge.auth import models\n"},
        ("bwenge.kit.ids -> bwenge.auth.models",),
    ),
    Plant("a package without a place", "imports", {"src/bwenge/common/__init__.py": ""}, ("- bwenge.common",)),
    Plant(
        "a cycle inside kit",
        "imports",
        {"src/bwenge/kit/ids.py": "from bwenge.kit.jobs import queue\n"},
        ("No two modules", "BROKEN", "bwenge.kit"),
    ),
    Plant(
        "a repository above its service",
        "imports",
        module("service", "") | module("repository", "from bwenge.learning import service\n"),
        ("bwenge.learning.repository -> bwenge.learning.service",),
    ),
    Plant(
        "a route past the service",
        "imports",
        module("repository", "") | module("routes", "from bwenge.learning import repository\n"),
        ("bwenge.learning.routes -> bwenge.learning.repository",),
    ),
)

IMPORT_RULES: Final = (
    Plant(
        "a feature entered past its contract",
        "architecture",
        module("planted", "from bwenge.persona.models import Persona\n"),
        (f"{FEATURE}/planted.py:1", "past bwenge.persona.contract"),
    ),
    Plant(
        "a web framework in a use case",
        "architecture",
        module("planted", "from fastapi import Request\n"),
        (f"{FEATURE}/planted.py:1", "imports fastapi"),
    ),
    Plant(
        "a concrete provider named outside apps",
        "architecture",
        module("planted", "from bwenge.providers.llm.fake import __name__\n"),
        (f"{FEATURE}/planted.py:1", "only apps names"),
    ),
    Plant(
        "a contract with queries",
        "architecture",
        module("contract", "from sqlalchemy import select\n"),
        (f"{FEATURE}/contract.py:", "a contract is plain data"),
    ),
    Plant(
        "split routes past the service",
        "architecture",
        module("models", "") | module("planted_routes", "from bwenge.learning import models\n"),
        (f"{FEATURE}/planted_routes.py:1", "passes by the service"),
    ),
    Plant(
        "a kit module that one package uses",
        "architecture",
        {"src/bwenge/kit/geometry.py": "", **module("planted", "from bwenge.kit import geometry\n")},
        ("src/bwenge/kit/geometry.py:1", "needs two packages", "has learning"),
    ),
    Plant(
        "a kit module without a capability",
        "architecture",
        {"src/bwenge/kit/core.py": ""},
        ("src/bwenge/kit/core.py:1", "kit.core is not named for a capability"),
    ),
    Plant(
        "a domain noun in kit",
        "architecture",
        {"src/bwenge/kit/bearings.py": "def persona_angle() -> float:\n    return 0.0\n"},
        ("src/bwenge/kit/bearings.py:1", "persona_angle"),
    ),
)

LATE_SESSION: Final = """
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession


async def _session() -> AsyncIterator[AsyncSession]:
    yield AsyncSession()


LateSession = Annotated[AsyncSession, Depends(_session)]
"""

CODE_RULES: Final = (
    Plant(
        "a session that commits after the response",
        "architecture",
        module("planted", LATE_SESSION),
        (f"{FEATURE}/planted.py:13", '_session yields, so it is depended on with scope="function"'),
    ),
    Plant(
        "a commit outside kit.db",
        "architecture",
        module("planted", "from sqlalchemy.ext.asyncio import AsyncSession\nAsyncSession().commit()\n"),
        (f"{FEATURE}/planted.py:2", ".commit() outside kit.db"),
    ),
    Plant(
        "a file of 501 lines",
        "architecture",
        module("planted", lines(501)),
        (f"{FEATURE}/planted.py:501", "501 lines"),
    ),
    Plant(
        "a function of 51 lines",
        "architecture",
        module("planted", "def long() -> None:\n" + lines(50, indent="    ")),
        (f"{FEATURE}/planted.py:1", "long has 51 lines"),
    ),
    Plant("a bag of leftovers", "architecture", module("helpers", ""), (f"{FEATURE}/helpers.py:1", "of a bag")),
    Plant(
        "a test that sleeps",
        "architecture",
        {"tests/learning/test_planted.py": "import time\n\n\ndef test_it() -> None:\n    time.sleep(1)\n"},
        ("tests/learning/test_planted.py:5", "a test sleeps"),
    ),
    Plant(
        "a test that never runs",
        "architecture",
        {
            "tests/learning/test_planted.py": (
                "import pytest\n\n\n@pytest.mark.skip(reason='later')\ndef test_it() -> None:\n    assert False\n"
            )
        },
        ("tests/learning/test_planted.py:4", "without a condition"),
    ),
    Plant(
        "a silenced finding without a reason",
        "architecture",
        module("planted", "import os  # noqa: F401\n"),
        (f"{FEATURE}/planted.py:1", "silenced"),
    ),
)

# Escapes keep these words out of this file, which the rules read as well.
TEXT_RULES: Final = (
    Plant(
        "the address of a registry",
        "architecture",
        {"docs/planted.md": "\npip install --index\x2durl=there bwenge\n"},
        ("docs/planted.md:2", "names a package registry"),
    ),
    Plant(
        "a note about work left",
        "architecture",
        module("planted", "# T\x4fDO: the rest\n"),
        (f"{FEATURE}/planted.py:1", "work that was left"),
    ),
    Plant(
        "a tracker's number",
        "architecture",
        module("planted", "# as in issue \x2312\n"),
        (f"{FEATURE}/planted.py:1", "refers to a tracker"),
    ),
    Plant("a secret", "architecture", {"secret.key": "0f"}, ("secret.key:1", "a data directory")),
    Plant(
        "a dependency nobody declared",
        "architecture",
        {"docs/dependencies.md": "| `boltons` | bags | MIT |\n"},
        ("docs/dependencies.md:", "boltons is not declared"),
    ),
    Plant(
        "a decision outside the index",
        "architecture",
        {"docs/decisions/0999-unlisted.md": "# 0999\n"},
        ("docs/decisions/0999-unlisted.md:1", "not in the index"),
    ),
    Plant(
        "an allowed skip of no test",
        "architecture",
        {"tests/allowed_skips.toml": '[[skip]]\ntest = "tests/test_none.py::test_a"\nreason = "r"\nwhy = "w"\n'},
        ("tests/allowed_skips.toml:1", "there is no tests/test_none.py::test_a"),
    ),
)

TOOLS: Final = (
    Plant(
        "an untyped function",
        "types",
        module("planted", "def answer(question):\n    return question\n"),
        (f"{FEATURE}/planted.py:1: error", "[no-untyped-def]"),
    ),
    Plant(
        "a test that is not typed",
        "types",
        {"tests/learning/test_planted.py": "def test_it():\n    assert True\n"},
        ("tests/learning/test_planted.py:1: error", "[no-untyped-def]"),
    ),
    Plant("a file formatted otherwise", "format-check", module("planted", "x = {'a':1}\n"), (f"{FEATURE}/planted.py",)),
    Plant("a lint error", "lint", module("planted", "import os\n"), (f"{FEATURE}/planted.py:1", "F401")),
)

QUIZ_MODEL: Final = """
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from bwenge.kit.db import Base


class PlantedQuiz(Base):
    __tablename__ = "planted_quizzes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
"""

SCHEMA: Final = (
    Plant(
        "a model changed without a migration",
        "schema",
        {
            "src/bwenge/auth/models.py": (
                "\nfrom sqlalchemy import String\n\nOrganization.motto = mapped_column(String, nullable=True)\n"
            )
        },
        ("test_alembic_finds_nothing_to_migrate", "organizations", "motto"),
    ),
    Plant(
        "a check changed without a migration",
        "schema",
        {"src/bwenge/auth/models.py": "\nUser.__table__.append_constraint(CheckConstraint('true', name='planted'))\n"},
        ("test_checks_partial_indexes_and_defaults", "ck_users_planted"),
    ),
    Plant(
        "a table that the list of access does not name",
        "schema",
        {**module("models", QUIZ_MODEL), "src/bwenge/migrations/metadata.py": "import bwenge.learning.models\n"},
        ("test_each_table_has_its_line_in_the_list_of_access", "planted_quizzes"),
    ),
    Plant(
        "a tenant table without row-level security",
        "schema",
        {
            **module("models", QUIZ_MODEL),
            "src/bwenge/migrations/metadata.py": "import bwenge.learning.models\n",
            "src/bwenge/migrations/access.py": (
                "\nACCESS['planted_quizzes'] = Access(app=ALL, platform=None, tenant=None)\n"
            ),
        },
        ("test_a_table_with_org_id_declares_it_as_its_tenant", "planted_quizzes"),
    ),
)

SKIPPED: Final = Plant(
    "a skip that nobody named",
    "test",
    {
        "tests/learning/test_planted.py": (
            "import os\n\nimport pytest\n\n\n@pytest.mark.skipif(os.sep == '/', reason='planted')\n"
            "def test_it() -> None:\n    assert False\n\n\ndef test_other() -> None:\n    assert True\n"
        )
    },
    ("does not name", "tests/learning/test_planted.py::test_it: planted"),
    arguments=("ARGS=tests/learning/test_planted.py",),
    environment={"BWENGE_STRICT_SKIPS": "1"},
)


def apart(plants: tuple[Plant, ...]) -> tuple[Plant, ...]:
    """The same with files of their own, so that all stand in one copy: the architecture's rules look at each file."""

    def renamed(text: str, number: int) -> str:
        return text.replace("/planted.", f"/planted_{number}.").replace("test_planted", f"test_planted_{number}")

    return tuple(
        replace(
            plant,
            files={renamed(path, number): text for path, text in plant.files.items()},
            says=tuple(renamed(words, number) for words in plant.says),
        )
        for number, plant in enumerate(plants)
    )


ARCHITECTURE: Final = apart((*IMPORT_RULES, *CODE_RULES, *TEXT_RULES))
PLANTS: Final = (*IMPORTS, *TOOLS, *SCHEMA, SKIPPED)


def copied(root: Path) -> Path:
    """The project as it would be committed, with the type checker's cache so that it need not start from nothing."""
    for path in project_files(ROOT):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, root / path)
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", root / ".mypy_cache")
    return root


def put(plant: Plant, root: Path) -> None:
    for path, text in plant.files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((file.read_text(encoding="utf-8") if file.exists() else "") + text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copied(tmp_path / "project")


def make(root: Path, target: str, *arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the target on the copy with this environment's tools, and nothing of an outer make or pytest."""
    inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.run(  # noqa: S603  # the project's own Makefile
        ["make", "--no-print-directory", target, f"VENV={sys.prefix}", "READY=", *arguments],  # noqa: S607  # on the PATH
        cwd=root,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name.replace(" ", "-"))
def test_the_check_goes_red_and_names_the_place(copy: Path, plant: Plant) -> None:
    put(plant, copy)

    result = make(copy, plant.target, *plant.arguments, environment=plant.environment)

    assert result.returncode != 0, result.stdout
    assert [words for words in plant.says if words not in result.stdout] == [], result.stdout


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """What the architecture's tests say of a copy that breaks each of their rules."""
    root = copied(tmp_path_factory.mktemp("planted") / "project")
    for plant in ARCHITECTURE:
        put(plant, root)
    return make(root, "architecture", environment={})


@pytest.mark.parametrize("plant", ARCHITECTURE, ids=lambda plant: plant.name.replace(" ", "-"))
def test_the_architecture_goes_red_and_names_the_place(
    architecture: "subprocess.CompletedProcess[str]", plant: Plant
) -> None:
    assert architecture.returncode != 0, architecture.stdout
    assert [words for words in plant.says if words not in architecture.stdout] == [], architecture.stdout


@pytest.mark.parametrize("target", ["format-check", "lint", "types", "imports", "architecture", "schema"])
def test_without_a_plant_the_copy_passes(copy: Path, target: str) -> None:
    result = make(copy, target, environment={})

    assert result.returncode == 0, result.stdout
