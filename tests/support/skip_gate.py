"""With BWENGE_STRICT_SKIPS=1, a run fails when a test is skipped that tests/allowed_skips.toml does not name.

A test that silently stops running looks like one that passes; this makes it look like one that fails.
"""

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class AllowedSkip:
    """`test` is a node id without parameters, or the file of a module skipped whole; `reason` is what pytest prints"""

    test: str
    reason: str


def allowed_skips(path: Path) -> list[AllowedSkip]:
    """Read the list: tables `[[skip]]` with `test`, `reason`, and `why` it is right that this machine skips it."""
    tables: list[dict[str, str]] = tomllib.loads(path.read_text(encoding="utf-8")).get("skip", [])
    for table in tables:
        if table.keys() != {"test", "reason", "why"} or not all(table.values()):
            raise ValueError(f"{path}: a skip needs test, reason and why, but one has {sorted(table)}")
    return [AllowedSkip(table["test"], table["reason"]) for table in tables]


class SkipGate:
    def __init__(self, allowed: list[AllowedSkip]) -> None:
        self._allowed = {(skip.test, skip.reason) for skip in allowed}
        self._refused: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._judge(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._refused:
            terminalreporter.section("skips that tests/allowed_skips.toml does not name", red=True)
            for line in self._lines():
                terminalreporter.write_line(line)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = _reason(report)
            if (report.nodeid.split("[")[0], reason) not in self._allowed:
                self._refused[report.nodeid] = reason

    def _lines(self) -> Iterator[str]:
        yield from (f"{test}: {reason}" for test, reason in sorted(self._refused.items()))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    expected_failure: str | None = getattr(report, "wasxfail", None)
    if expected_failure is not None:
        return expected_failure
    where: Any = report.longrepr
    text = str(where[2]) if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    is_xdist_worker = hasattr(config, "workerinput")
    if os.environ.get("BWENGE_STRICT_SKIPS") == "1" and not is_xdist_worker:
        allowed = allowed_skips(config.rootpath / "tests" / "allowed_skips.toml")
        config.pluginmanager.register(SkipGate(allowed), "bwenge-skip-gate")
