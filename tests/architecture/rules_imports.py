"""Rules about who imports what that a layers contract of import-linter cannot say.

Each takes the project's root and returns its violations as "path:line: what is wrong".
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.architecture.sources import PACKAGE, Import, Module, product_imports, product_modules

PLATFORM: Final = frozenset({"kit", "providers", "migrations", "apps", "cli", "__main__", ""})
"""What is not a feature; everything else below the package is one."""

EDGES: Final = frozenset({"wiring", "routes", "tasks", "remote", "sockets", "uploads"})
"""The roles of a feature that meet the outside, as the last word of a module's name (`routes`, `answer_routes`): they
may speak the web framework's or the queue's language, and reach the tables through the service only."""

EDGE_PACKAGES: Final = frozenset({"gateway"})
"""Packages that are an edge as a whole: the gateway has no use case of its own, and speaks the web server's language in
every module."""

TABLE_ROLES: Final = frozenset({"repository", "models"})

LIBRARIES: Final = frozenset(
    {
        "cryptography",  # keys and signatures are computation alone, as are the tokens of jwt
        "jwt",
        "numpy",
        "markdown_it",
        "pgvector",  # column types and operators
        "prometheus_client",
        "psycopg",  # its exceptions name what PostgreSQL refused
        "pwdlib",
        "py3langid",
        "pydantic",
        "pydantic_settings",
        "sqlalchemy",
        "Stemmer",
        "structlog",
        "tenacity",
        "typing_extensions",
        "tokenizers",
        "zxcvbn",  # a list of words
    }
)
"""What a feature may use beyond the standard library: no web framework, broker or vendor SDK."""

PROVIDER_FRONTS: Final = frozenset({"base", "windows"})
"""Modules of a provider that any package may use: the protocol, and computations over it."""

KIT_NAMES_REFUSED: Final = frozenset({"utils", "helpers", "common", "base", "core", "misc", "shared", "lib"})

DOMAIN_NOUNS: Final = (
    "persona conversation learner quiz mastery avatar viseme lesson citation subscription invoice curriculum".split()
)


def front_doors(root: Path) -> list[str]:
    """A feature is entered only through its contract, a provider through its base, and each layer knows its part."""
    return [
        f"{module.place(imported.line)}: {module.name} imports {imported.name}, {reason}"
        for module in product_modules(root)
        for imported in product_imports(root, module)
        if (reason := _refusal(module, imported.name)) is not None
    ]


def _refusal(importer: Module, target: str) -> str | None:
    parts = target.split(".")
    top = parts[1] if len(parts) > 1 else ""
    if importer.top in {top, "apps"} or top in {"kit", ""}:
        return None
    if importer.top in {"cli", "__main__"}:
        return None if top in {"apps", "cli"} else "but the command line knows only apps and kit"
    if importer.top == "migrations":
        return None if parts[2:] == ["models"] else "but migrations know only models and kit"
    if top == "providers":
        is_front = len(parts) == 4 and parts[3] in PROVIDER_FRONTS
        return None if is_front else "but only apps names more of a provider than its base"
    return None if parts[2:] == ["contract"] else f"past {PACKAGE}.{top}.contract"


def libraries(root: Path) -> list[str]:
    """A feature's modules use no web framework, broker or vendor SDK; its edges, and packages of adapters, may."""
    found = {
        f"{module.place(imported.line)}: {module.name} imports {imported.name.split('.')[0]}, a framework, a broker"
        " or a vendor's library; only edges and adapters may (a mere library is named in LIBRARIES)"
        for module in product_modules(root)
        if _is_role(module) and _edge(module) is None and module.top not in EDGE_PACKAGES
        for imported in _foreign(module)
        if imported.name.split(".")[0] not in LIBRARIES
    }
    return sorted(found)


def through_the_service(root: Path) -> list[str]:
    """A feature's edges reach its tables through the service, and nothing but wiring imports its edges.

    The contract of the same name says so of the plain roles; this adds those that were split (`answer_routes`).
    """
    by_name = {module.name: module for module in product_modules(root)}
    violations: set[str] = set()
    for module in filter(_is_role, by_name.values()):
        edge = _edge(module)
        for imported in product_imports(root, module):
            target = by_name.get(imported.name)
            if target is None or target.top != module.top or edge == "wiring":
                continue
            if edge is not None and target.below_top and target.below_top[-1] in TABLE_ROLES:
                violations.add(f"{module.place(imported.line)}: {module.name} passes by the service to {target.name}")
            if edge is None and _is_role(target) and _edge(target) is not None:
                violations.add(f"{module.place(imported.line)}: {module.name} imports the edge {target.name}")
    return sorted(violations)


def _is_role(module: Module) -> bool:
    """Whether it stands directly in a feature's folder; the folders inside a feature hold its adapters."""
    return module.top not in PLATFORM and len(module.below_top) == 1 and not module.is_package


def _edge(module: Module) -> str | None:
    last_word = module.below_top[0].rsplit("_", 1)[-1]
    return last_word if last_word in EDGES else None


def _foreign(module: Module) -> Iterator[Import]:
    for imported in module.imports:
        package = imported.name.split(".")[0]
        if package != PACKAGE and package not in sys.stdlib_module_names:
            yield imported


def plain_contracts(root: Path) -> list[str]:
    """A contract imports the standard library, kit, other contracts, `AsyncSession`, and modules as plain as itself."""
    by_name = {module.name: module for module in product_modules(root)}
    contracts = [module for module in by_name.values() if module.below_top == ("contract",)]
    return sorted({violation for contract in contracts for violation in _impurities(root, contract, by_name, set())})


def _impurities(root: Path, module: Module, by_name: dict[str, Module], seen: set[str]) -> Iterator[str]:
    seen.add(module.name)
    for imported in _foreign(module):
        if imported.name != "sqlalchemy.ext.asyncio.AsyncSession":
            yield f"{module.place(imported.line)}: a contract is plain data, but imports {imported.name}"
    for imported in product_imports(root, module):
        target = by_name.get(imported.name)
        if target is None or target.top == "kit" or target.below_top == ("contract",) or target.name in seen:
            continue
        yield from _impurities(root, target, by_name, seen)


def kit_admission(root: Path) -> list[str]:
    """A part of kit is named for a capability, knows no domain noun, and two packages use it (kit itself is one)."""
    parts: dict[str, Path] = {}
    for module in product_modules(root):
        if module.top == "kit" and module.below_top:
            parts.setdefault(module.below_top[0], module.path)
    users = _kit_users(root)
    violations = [
        f"{path}:1: kit.{name} needs two packages that use it today, and has {', '.join(sorted(users[name])) or 'none'}"
        for name, path in parts.items()
        if len(users[name]) < 2
    ]
    violations += [
        f"{path}:1: kit.{name} is not named for a capability"
        for name, path in parts.items()
        if name in KIT_NAMES_REFUSED
    ]
    return violations + _domain_nouns(root)


def _kit_users(root: Path) -> dict[str, set[str]]:
    """The top-level packages that import each part of kit; a part's imports of itself do not count."""
    users: dict[str, set[str]] = defaultdict(set)
    for module in product_modules(root):
        for imported in product_imports(root, module):
            parts = imported.name.split(".")
            if parts[1:2] == ["kit"] and len(parts) > 2 and (module.top, *module.below_top[:1]) != ("kit", parts[2]):
                users[parts[2]].add(module.top)
    return users


def _domain_nouns(root: Path) -> list[str]:
    return [
        f"{module.place(line)}: kit knows no domain noun, but names {identifier}"
        for module in product_modules(root)
        if module.top == "kit"
        for identifier, line in sorted(set(module.identifiers()))
        if any(noun in identifier.lower() for noun in DOMAIN_NOUNS)
    ]
