"""The rows that a demand model learns from and is judged on: features at past times with the counts that came next.

A row's counts are known once its horizon is over, cut + horizon ≤ now: nothing is learned from it before that.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from app.errors import NotEnoughData
from ml.dataset import STEP_BY_DAY
from ml.demand import Expected, Walk
from ml.features import NAMES, FeatureBuilder, Matrix
from ml.history import DAY, HOUR, Catalogue, Floats, History, Ints

EXTRA = ("expected", "expected_of_prefix", "days_watched", "reads_before")
"""Beside ml.features.NAMES: reads a day that Gamma–Poisson expects of the object and of its prefix's, the days that it
was watched, and its reads in the last window of the horizon's length."""
COLUMNS: tuple[str, ...] = (*NAMES, *EXTRA)
LEAST_RATE = 1e-6  # reads a day


@dataclass(frozen=True)
class Rows:
    """Rows of (object, cut) pairs in order of their cuts, one element a row."""

    X: Matrix
    """(rows × COLUMNS)."""
    reads: Floats
    """Reads in [cut, cut + horizon)."""
    bytes: Floats
    object: Ints
    cut: Ints
    mean: Floats
    """Reads that Gamma–Poisson expects in the horizon."""
    bytes_a_read: Floats
    plain: dict[str, Floats]
    """What each baseline expects in the horizon."""

    @property
    def before(self) -> Floats:
        """Reads in the last window of the horizon's length."""
        return self.X[:, COLUMNS.index("reads_before")].astype(float)

    def __len__(self) -> int:
        return len(self.cut)

    def where(self, mask: npt.NDArray[np.generic]) -> Rows:
        """The rows of a mask, or of places in order."""
        columns = {name: values[mask] for name, values in vars(self).items() if name != "plain"}
        return Rows(**columns, plain={name: values[mask] for name, values in self.plain.items()})


class Observer:
    """Makes rows of one history for one horizon."""

    def __init__(self, history: History, catalogue: Catalogue, horizon: int) -> None:
        self.history, self.catalogue, self.horizon = history, catalogue, horizon
        self._builder = FeatureBuilder(history, catalogue)
        self._reads, self._bytes = (np.concatenate(([0], np.cumsum(c))) for c in (history.reads, history.bytes_read))

    def looking(self, horizon: int) -> Self:
        """The same for another horizon, over the same running totals."""
        other = copy(self)
        other.horizon = horizon
        return other

    @property
    def days(self) -> float:
        """The horizon in days."""
        return self.horizon / DAY

    def step(self) -> int:
        """Between two cuts: an hour, six hours or a day, by the horizon and the grain of the history."""
        if self.horizon < DAY:
            return HOUR
        return STEP_BY_DAY if self.horizon == DAY and not self.history.daily else DAY

    def cuts(self, since: int, until: int) -> Ints:
        """The times on this grid in [since, until] whose horizon is over by `until`."""
        step = self.step()
        return np.arange(-(-since // step) * step, until - self.horizon + 1, step)

    def rows(self, cuts: Ints, most: int, rng: np.random.Generator) -> Rows:
        """Rows at these cuts of every object known at them, or of a draw of about `most`. Raises NotEnoughData."""
        owners = [self._builder.known(int(cut)) for cut in cuts]
        pairs = sum(len(known) for known in owners)
        if not pairs:
            raise NotEnoughData("the accesses span less than one horizon")
        if pairs > most:
            owners = [known[rng.random(len(known)) < most / pairs] for known in owners]
        names = [field.name for field in fields(Expected)]
        walk, said = Walk(self.history, self.catalogue, everyone=False), []
        for cut, chosen in zip(cuts, owners, strict=True):
            expected = walk.to(int(cut))
            said.append([getattr(expected, name)[chosen] for name in names])
        owner, cut = np.concatenate(owners), np.repeat(cuts, [len(some) for some in owners])
        return self._rows(owner, cut, Expected(*(np.concatenate(part) for part in zip(*said, strict=True))))

    def now(self, as_of: int, expected: Expected, X: Matrix) -> Rows:
        """One row of every object as of a time after the history, whose counts are not known: they are 0.

        X: ml.features.snapshot of it.
        """
        owner = np.arange(self.history.objects)
        return self._rows(owner, np.full(len(owner), as_of), expected, X)

    def _rows(self, owner: Ints, cut: Ints, expected: Expected, known: Matrix | None = None) -> Rows:
        """expected: one element a row. known: the features, where they were made already."""
        builder, days = self._builder, self.days
        X = np.empty((len(owner), len(COLUMNS)), np.float32)
        X[:, : len(NAMES)] = builder.rows(owner, cut, np.zeros(len(owner))).X if known is None else known
        before = builder.reads_between(owner, cut - self.horizon, cut).astype(float)
        for place, values in enumerate((expected.reads, expected.cohort, expected.days, before), len(NAMES)):
            X[:, place] = values
        total = self._reads[builder.events.position(owner, cut)] - self._reads[builder.events.start[owner]]
        seen = cut - builder.first_ts[owner]  # of objects without accesses far below 0
        plain = {
            "last_window": _a_day(before, np.minimum(cut - self.history.begin, self.horizon)),
            "rate_30d": _a_day(builder.reads_between(owner, cut - 30 * DAY, cut), np.minimum(seen, 30 * DAY)),
            "rate_lifetime": _a_day(total, seen),
            "prefix_mean": expected.cohort,
        }
        at, until = (builder.events.position(owner, moment) for moment in (cut, cut + self.horizon))
        return Rows(
            X=X,
            reads=(self._reads[until] - self._reads[at]).astype(float),
            bytes=(self._bytes[until] - self._bytes[at]).astype(float),
            object=owner,
            cut=cut,
            mean=expected.reads * days,
            bytes_a_read=expected.bytes_a_read,
            plain={name: np.maximum(rate, LEAST_RATE) * days for name, rate in plain.items()},
        )


def _a_day(reads: npt.NDArray[np.generic], span: Ints) -> Floats:
    """Reads a day of a span, an hour at least. Silence counts as half a read, so that it does not rule out a read."""
    return np.asarray(np.maximum(reads, 0.5) / (np.maximum(span, HOUR) / DAY), float)
