"""What the architecture rules read: the project's files, and its Python modules with what they import."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "bwenge"
CODE_FOLDERS: Final = ("src", "tests", "bench", "tools")
_NOT_OURS: Final = frozenset(
    ".git .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache data dist node_modules"
    " __pycache__".split()
)


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `from a.b import c` is `a.b.c`, whether c is a module or not."""

    name: str
    line: int


@dataclass(frozen=True)
class Module:
    """A parsed Python file. `path` is relative to the project's root; `name` is dotted, below src or the root."""

    path: Path
    name: str
    text: str
    is_package: bool

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def top(self) -> str:
        """The package below `bwenge` that the module is part of: auth, kit, ..., or "" for the package itself."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def below_top(self) -> tuple[str, ...]:
        return tuple(self.name.split(".")[2:])

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(self._imports())

    def place(self, line: int) -> str:
        return f"{self.path}:{line}"

    def identifiers(self) -> Iterator[tuple[str, int]]:
        """Every name that the module defines, reads or takes, with its line."""
        for node in ast.walk(self.tree):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    yield name, node.lineno
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    yield name, node.lineno

    def _imports(self) -> Iterator[Import]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        parts = self.name.split(".")
        parents = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parents, *([node.module] if node.module else [])])


@lru_cache(maxsize=8)
def project_files(root: Path) -> tuple[Path, ...]:
    """Every file that is or would be committed, relative to the root."""
    if (root / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],  # noqa: S607  # git is wherever the machine has it
            cwd=root,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        found = {Path(name) for name in listing.split("\0") if name}
        return tuple(sorted(path for path in found if (root / path).is_file()))
    return tuple(sorted(_walk(root, root)))


def _walk(folder: Path, root: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in _NOT_OURS and not entry.is_symlink():
            yield from _walk(entry, root)
        elif entry.is_file():
            yield entry.relative_to(root)


@lru_cache(maxsize=8)
def modules(root: Path, *, below: tuple[str, ...] = CODE_FOLDERS) -> tuple[Module, ...]:
    """The Python files below the given folders of the root."""
    return tuple(_module(root, path) for path in project_files(root) if path.suffix == ".py" and path.parts[0] in below)


def product_modules(root: Path) -> tuple[Module, ...]:
    return modules(root, below=("src",))


def _module(root: Path, path: Path) -> Module:
    parts = list(path.with_suffix("").parts)
    if parts[0] == "src":
        del parts[0]
    is_package = parts[-1] == "__init__"
    if is_package:
        del parts[-1]
    return Module(path, ".".join(parts), (root / path).read_text(encoding="utf-8"), is_package)


@lru_cache(maxsize=8)
def _known(root: Path) -> frozenset[str]:
    names = (module.name.split(".") for module in product_modules(root))
    return frozenset(".".join(parts[:length]) for parts in names for length in range(1, len(parts) + 1))


def product_imports(root: Path, module: Module) -> Iterator[Import]:
    """Imports of the product's own modules, each cut to the module or package that it names."""
    for imported in module.imports:
        if imported.name.split(".")[0] != PACKAGE:
            continue
        parts = imported.name.split(".")
        while ".".join(parts) not in _known(root) and len(parts) > 1:
            parts.pop()
        yield Import(".".join(parts), imported.line)
