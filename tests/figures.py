"""What repeated checks have shown: one line a row of docs/guarantees.md, with n and seconds, told at the run's end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

LINES = pytest.StashKey[list[str]]()
"""The figures of this run, in the order in which they were measured."""


@dataclass
class Figures:
    """What one test has to tell; its clock runs from the test's start."""

    lines: list[str]
    began: float = field(default_factory=time.monotonic)

    def __call__(self, row: str, shown: str, n: int, *, bound: bool = True) -> None:
        """Tells a row's figure. shown: what was found in all of the n runs; call it once the asserts have passed.

        bound: with no failure in n runs, fewer than 3/n of all runs fail (95 %). False for a figure that is a time.
        """
        within = f" (95 % bound {min(100, 100 * 3 / n):.3g} %)" if bound else ""
        line = f"{row:4} n {n:,}{within} in {time.monotonic() - self.began:.1f} s: {shown}"
        self.lines.append(line)
        print(line)


@dataclass(frozen=True)
class Rounds:
    """How often a check is repeated: as docs/guarantees.md says under --full, else for as long as the budget lasts."""

    full: bool
    budget_s: float

    def __call__(self, n: int, *, share: float = 1.0, least: int = 1) -> Iterator[int]:
        """0 … n − 1; without --full it ends when `share` × the budget is over, but not before `least` rounds."""
        until = time.monotonic() + share * self.budget_s
        for number in range(n):
            if not self.full and number >= least and time.monotonic() > until:
                return
            yield number


def show(reporter: pytest.TerminalReporter, lines: list[str]) -> None:
    """Writes the figures at the end of the run."""
    if lines:
        reporter.section("figures")
        for line in sorted(lines, key=_place):
            reporter.write_line(line)


def _place(line: str) -> tuple[str, int, str]:
    """Rows of docs/guarantees.md by their number, then what has a name."""
    row = line.split(maxsplit=1)[0]
    return (row[0], int(row[1:]), row) if row[1:].isdigit() else ("~", 0, row)
