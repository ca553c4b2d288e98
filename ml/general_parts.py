"""Which of a user's events are learned from and which are held out, so that versions are compared fairly (step: learn).

Events stand in an order that is their own: that of their times, or one drawn by the seed from what is in them. The last
fifth is held out. Whoever knows up to where another version has learned knows which events it cannot have learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.general_rows import Table
from ml.serving import Ints

HELD_OUT = 0.2
LEAST_HELD_OUT = 5
"""With fewer rows than these held out nothing is measured, and all are learned from."""
STEP, FIRST, SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Of splitmix64."""


@dataclass(frozen=True)
class Learned:
    """From what a version has learned: from events up to `to` in the order of the field `time`, or in the seed's."""

    time: str | None
    seed: int
    to: int

    def as_json(self) -> dict[str, Any]:
        """As it stands with the version."""
        return {"time": self.time, "seed": self.seed, "to": self.to}

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Learned | None:
        """Of a version's params; None where they do not say."""
        return cls(**params["learned"]) if "learned" in params else None

    def unseen(self, table: Table, time: str | None, rows: Ints) -> Ints | None:
        """Those of the rows that it has not learned from; None where it went by times that these rows do not have."""
        if self.time is not None and self.time != time:
            return None
        keys = table.times if self.time else drawn(table.prints, self.seed)
        return rows[keys[rows] > self.to]


def parts(table: Table, time: str | None, seed: int) -> tuple[Ints, Ints, str, Learned]:
    """Rows to learn from, rows held out, how they were parted, and what was learned from."""
    n = len(table.X)
    keys = table.times if time else drawn(table.prints, seed)
    order = np.argsort(keys, kind="stable")
    held = round(n * HELD_OUT)
    split = "the latest fifth" if time else "a fifth drawn by the seed"
    if held < LEAST_HELD_OUT:
        held, split = 0, "none: too few events to hold some out"
    learn = np.sort(order[: n - held])
    return learn, order[n - held :], split, Learned(time, seed, int(keys[learn].max()))


def drawn(prints: Ints, seed: int) -> Ints:
    """A number from 0 to 2⁵³ for each event, as if by chance, and the same for the same event and seed."""
    mixed = prints.astype(np.uint64) + np.uint64(seed * int(STEP) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.int64)
