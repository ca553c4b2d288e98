"""`foretide test`: runs the linters and the groups of the test suite, and says what was not run and how to run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from xml.etree import ElementTree

import click

from app.devstack.guard import Orphaned, guarded
from app.errors import ExitCode
from app.settings import PROJECT_ROOT, get_settings

LINTERS: dict[str, tuple[str, ...]] = {
    "ruff check": ("-m", "ruff", "check"),
    "ruff format": ("-m", "ruff", "format", "--check"),
    "mypy": ("-m", "mypy"),
    "import contracts": ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
}
PATHS: dict[str, tuple[str, ...]] = {
    "unit": ("tests/unit", "tests/test_architecture.py", "tests/test_docs.py"),
    "integration": ("tests/integration",),
    "e2e": ("tests/e2e",),
    "reliability": ("tests/reliability",),
    "browser": ("tests/browser",),
}
GROUPS = ("lint", *PATHS)
PROCESSES = 3
IN_PARALLEL = {"unit": "loadfile", "integration": "loadfile", "e2e": "loadgroup"}
"""Groups whose tests are shared out to that many processes, each with a stack of its own, and how pytest-xdist does it.

The others have the machine to themselves: what they measure are times.
"""
NO_TESTS = 5  # pytest's exit code
REPORTED = ("tests", "failures", "errors", "skipped")  # counts of a JUnit report


@dataclass
class Outcome:
    """What became of one group; `note` says why it has not run, or not wholly."""

    group: str
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""

    def line(self) -> str:
        """The group's line of the summary."""
        if self.note:
            return f"{self.group:12} {self.note}"
        counts = f"{self.passed} passed, {self.failed} failed, {len(self.skipped)} skipped"
        rest = "".join(f"\n{'':12} not run: {test}" for test in self.skipped)
        return f"{self.group:12} {counts} in {self.seconds:.1f} s{rest}"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("groups", nargs=-1, metavar="[lint|unit|integration|e2e|reliability|browser]... [-- PYTEST OPTIONS]")
@click.option("--full", is_flag=True, help="As many repetitions as docs/guarantees.md promises; takes hours.")
def test(groups: tuple[str, ...], full: bool) -> int:
    """Run the linters and the test suite: the groups named, else all of them.

    What follows -- goes to pytest, as in: foretide test unit -- -k pricing
    """
    chosen, extra = _split(groups)
    return guarded(lambda: run(chosen, [*(["--full"] if full else []), *extra]))


def run(groups: tuple[str, ...], pytest_arguments: list[str]) -> int:
    """Run groups in order and print the summary; the exit code."""
    outcomes = []
    for group in groups:
        click.secho(f"== {group}", bold=True)
        outcome = lint() if group == "lint" else pytest_group(group, pytest_arguments)
        outcomes.append(outcome)
        click.echo(outcome.line())
    click.secho("== summary", bold=True)
    for outcome in outcomes:
        click.echo(outcome.line())
    for group in GROUPS:
        if group not in groups:
            click.echo(f"{group:12} not asked for; run it with: ./foretide test {group}")
    passed, failed = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("passed", "failed"))
    click.echo(f"{passed} passed, {failed} failed, {sum(len(outcome.skipped) for outcome in outcomes)} skipped")
    return ExitCode.FAILED if failed else ExitCode.OK


def lint() -> Outcome:
    """Run every linter; each counts as one test."""
    outcome = Outcome("lint")
    begun = time.monotonic()
    for name, arguments in LINTERS.items():
        good = _python(*arguments) == 0
        click.echo(f"{name}: {'passed' if good else 'FAILED'}")
        outcome.passed += good
        outcome.failed += not good
    outcome.seconds = time.monotonic() - begun
    return outcome


def pytest_group(group: str, arguments: list[str]) -> Outcome:
    """Run one group by pytest; its counts are read from pytest's own report."""
    from tests.needs import group_lacking

    if reason := group_lacking(group):
        return Outcome(group, note=f"not run: {reason}")
    paths = [path for path in PATHS[group] if (PROJECT_ROOT / path).exists()]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = _python("-m", "pytest", *paths, f"--junitxml={report}", *_in_parallel(group), *arguments)
        outcome = read_report(group, report)
    outcome.seconds = time.monotonic() - begun
    if status == NO_TESTS:
        outcome.note = "no tests" if not arguments else "no tests selected"
    elif status != 0 and not outcome.failed:
        outcome.failed += 1  # pytest itself broke off
    return outcome


def read_report(group: str, report: Path) -> Outcome:
    """Counts of a JUnit report; all 0 when there is none."""
    outcome = Outcome(group)
    if report.exists():
        for suite in ElementTree.parse(report).iter("testsuite"):  # noqa: S314 - our own pytest wrote it
            tests, failures, errors, skipped = (int(suite.get(name, "0")) for name in REPORTED)
            outcome.failed += failures + errors
            outcome.passed += tests - failures - errors - skipped
            for case in suite.iter("testcase"):
                outcome.skipped += [f"{case.get('name')}: {reason.get('message')}" for reason in case.iter("skipped")]
    return outcome


def _split(words: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """The groups that stand first, else all of them; what follows them is pytest's."""
    named = tuple(takewhile(lambda word: word in GROUPS, words))
    extra = list(words[len(named) :])
    if extra and not extra[0].startswith("-"):
        raise click.UsageError(f"there is no group {extra[0]}; the groups are {', '.join(GROUPS)}")
    return named or GROUPS, extra


def _in_parallel(group: str) -> tuple[str, ...]:
    """Options of pytest-xdist; none where the processes would share a server that the environment names."""
    settings = get_settings()
    shared = settings.database_url or settings.broker_url or settings.sites
    if group not in IN_PARALLEL or shared or os.cpu_count() == 1:
        return ()
    return (f"--numprocesses={PROCESSES}", f"--dist={IN_PARALLEL[group]}")


def _python(*arguments: str) -> int:
    """Run this Python at the project's root; its exit code. It ends in order when we are asked to end."""
    sys.stdout.flush()
    with subprocess.Popen([sys.executable, *arguments], cwd=PROJECT_ROOT) as process:  # noqa: S603
        try:
            return process.wait()
        except Orphaned:
            process.kill()
            raise
        except (KeyboardInterrupt, SystemExit):
            process.send_signal(signal.SIGINT)
            process.wait(20)
            raise
