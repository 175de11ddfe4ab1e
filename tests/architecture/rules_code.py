"""Rules about what stands inside a module. Each takes the project's root and returns "path:line: what is wrong"."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.architecture.sources import CODE_FOLDERS, Module, modules, product_modules, project_files

FILE_LINES: Final = 500
FUNCTION_LINES: Final = 50
WRITTEN_BY_HAND: Final = frozenset({".py", ".js", ".css", ".html", ".sql", ".sh"})

BAGS: Final = frozenset("util utils helper helpers common commons misc shared stuff lib base_utils toolbox".split())

_TRANSACTION_CALLS: Final = frozenset({"commit", "begin", "begin_nested"})
_TRANSACTION_OWNERS: Final = ("sqlalchemy", "psycopg", "bwenge.kit.db", "bwenge.kit.http.dependencies")
_MAY_COMMIT: Final = (Path("src/bwenge/kit/db.py"), Path("src/bwenge/migrations"))
_SUPPRESSION: Final = re.compile(
    r"#\s*(?:noqa|type:\s*ignore)(?P<codes>:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w\-, ]+\])?(?P<rest>.*)"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def commits(root: Path) -> list[str]:
    """Only kit.db begins and ends transactions, and the migrations their own."""
    return [
        f"{module.place(node.lineno)}: .{node.func.attr}() outside kit.db; open a unit of work"
        for module in product_modules(root)
        if _holds_sessions(module)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in _TRANSACTION_CALLS and not node.args  # what takes an argument begins something else
    ]


def _holds_sessions(module: Module) -> bool:
    """Whether a session can be in its hands: types are strict, so whoever takes or opens one imports its type."""
    may_commit = any(module.path.is_relative_to(allowed) for allowed in _MAY_COMMIT)
    return not may_commit and any(imported.name.startswith(_TRANSACTION_OWNERS) for imported in module.imports)


def dependency_scopes(root: Path) -> list[str]:
    """What a dependency does after its `yield`, a commit say, is done before the response starts."""
    sources = list(product_modules(root))
    generators = {
        node.name
        for module in sources
        for node in ast.walk(module.tree)
        if isinstance(node, Function) and any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node))
    }
    return [
        f'{module.place(node.lineno)}: {provider} yields, so it is depended on with scope="function"'
        for module in sources
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"Depends", "Security"}
        if (provider := _provider(node)) in generators and not _is_function_scoped(node)
    ]


def _provider(call: ast.Call) -> str:
    """The last name of what is depended on, or of what makes it: `_session`, `sessions.platform`, `session_of(...)`."""
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "dependency")]
    provider = given[0] if given else None
    return ast.unparse(provider.func if isinstance(provider, ast.Call) else provider or call).rpartition(".")[2]


def _is_function_scoped(call: ast.Call) -> bool:
    return any(keyword.arg == "scope" and ast.unparse(keyword.value) == "'function'" for keyword in call.keywords)


def sizes(root: Path) -> list[str]:
    """Files and functions stay small enough to be read at once; a docstring is not counted in its function."""
    long_files = [
        f"{path}:{FILE_LINES + 1}: the file has {lines} lines, over {FILE_LINES}"
        for path in project_files(root)
        if path.suffix in WRITTEN_BY_HAND and path.parts[0] in CODE_FOLDERS
        if (lines := len((root / path).read_text(encoding="utf-8").splitlines())) > FILE_LINES
    ]
    long_functions = [
        f"{module.place(node.lineno)}: {node.name} has {lines} lines, over {FUNCTION_LINES}"
        for module in modules(root)
        for node in ast.walk(module.tree)
        if isinstance(node, Function) and (lines := _length(node)) > FUNCTION_LINES
    ]
    return long_files + long_functions


def _length(function: Function) -> int:
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = _lines(first) if has_docstring else 0
    return _lines(function) - docstring


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def bags(root: Path) -> list[str]:
    """No module or folder is a bag of leftovers: its name says what it is for."""
    return [
        f"{path}:1: {part} is the name of a bag, not of a thing"
        for path in project_files(root)
        if path.parts[0] in CODE_FOLDERS
        for part in path.with_suffix("").parts
        if part.lower() in BAGS
    ]


def sleeps(root: Path) -> list[str]:
    """Tests wait for facts, never for time; what polls lives in tests/support."""
    return [
        f"{module.place(line)}: a test sleeps; wait for the fact with what tests/support offers"
        for module in modules(root)
        if module.path.parts[0] == "tests" and module.path.parts[1] != "support"
        for line in _sleep_lines(module)
    ]


def _sleep_lines(module: Module) -> Iterator[int]:
    yield from (imported.line for imported in module.imports if imported.name == "time.sleep")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield node.lineno


def skips(root: Path) -> list[str]:
    """A test that never runs proves nothing: a skip or an expected failure has a condition."""
    return [
        f"{module.place(line)}: skipped or expected to fail without a condition"
        for module in modules(root)
        if module.path.parts[0] == "tests"
        for line in [*_bare_marks(module.tree), *_bare_skip_calls(module.tree.body)]
    ]


def _bare_marks(tree: ast.Module) -> Iterator[int]:
    conditional = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and any(not isinstance(argument, ast.Constant) for argument in _condition(node))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in conditional:
            owner, _, mark = ast.unparse(node).rpartition(".")
            if owner.split(".")[-1] == "mark" and mark in {"skip", "skipif", "xfail"}:
                yield node.lineno


def _condition(mark: ast.Call) -> list[ast.expr]:
    """The condition of `skipif` or `xfail`; `skip` takes none, and its reason is a constant."""
    return mark.args[:1] + [keyword.value for keyword in mark.keywords if keyword.arg == "condition"]


def _bare_skip_calls(body: list[ast.stmt]) -> Iterator[int]:
    for statement in body:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Attribute() as called)):
                if ast.unparse(called) in {"pytest.skip", "pytest.xfail"}:
                    yield statement.lineno
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.With() | ast.AsyncWith():
                yield from _bare_skip_calls(statement.body)


def suppressions(root: Path) -> list[str]:
    """What silences a linter or the type checker names the finding and says why, beside it or on the line above."""
    return [
        f"{module.place(line)}: a finding is silenced without its code or a reason"
        for module in modules(root)
        for line in _unexplained(module)
    ]


def _unexplained(module: Module) -> Iterator[int]:
    lines = module.text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        found = _SUPPRESSION.match(token.string) if token.type == tokenize.COMMENT else None
        if found is None:
            continue
        line = token.start[0]
        explained_above = line > 1 and lines[line - 2].strip().startswith("#")
        has_reason = re.search(r"[A-Za-z]{2}", found["rest"]) is not None or explained_above
        if found["codes"] is None or not has_reason:
            yield line
