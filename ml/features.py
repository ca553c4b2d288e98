"""The features of an object as of a time, each defined once: what a tier or demand model sees (step: window, predict).

All windows are half open, [t − w, t): an access at t itself is the future. Formulas and windows: docs/concepts.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.history import DAY, HOUR, SECOND, Catalogue, Floats, History, Ints

Matrix = npt.NDArray[np.float32]
Columns = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class FeatureSpec:
    """One column: its name, meaning, unit, and whether more of it can only make an object hotter (1) or colder (−1)."""

    name: str
    meaning: str
    unit: str
    trend: int = 0


NEVER = 90 * DAY  # recency of an object without accesses
OVERDUE_CAP = 10.0
MOST_CODE = 2**62  # of an object and a time as one number
WINDOWS = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
HALF_LIVES = {"6h": 6 * HOUR, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}

# Rates are per day of exposure: of the window, or of the part of it that the history covers. Counts of a window that
# is still filling grow with time alone, and a forest trained on them loses to a plain count on the days that follow.
FEATURES: tuple[FeatureSpec, ...] = (
    FeatureSpec("access_1h", "accesses in the last hour", "accesses", 1),
    FeatureSpec("access_24h", "accesses in the last 24 hours", "accesses", 1),
    FeatureSpec("recency_s", "time since the last access, at most 90 days", "seconds", -1),
    FeatureSpec("hour_of_day", "hour of the day in UTC", "0–23"),
    FeatureSpec("day_of_week", "day of the week in UTC, Monday is 0", "0–6"),
    FeatureSpec("partial_upload", "1 if an access of the last 24 hours was a partial upload", "0 or 1"),
    FeatureSpec("access_7d", "accesses in the last 7 days", "accesses", 1),
    FeatureSpec("access_30d", "accesses in the last 30 days", "accesses", 1),
    FeatureSpec("access_total", "accesses in all the history that is kept", "accesses", 1),
    FeatureSpec("rate_24h", "accesses in the last 24 hours", "accesses a day", 1),
    FeatureSpec("rate_7d", "accesses in the last 7 days", "accesses a day", 1),
    FeatureSpec("rate_30d", "accesses in the last 30 days", "accesses a day", 1),
    FeatureSpec("bytes_24h", "bytes read in the last 24 hours", "bytes a day", 1),
    FeatureSpec("bytes_7d", "bytes read in the last 7 days", "bytes a day", 1),
    FeatureSpec("bytes_30d", "bytes read in the last 30 days", "bytes a day", 1),
    FeatureSpec("decayed_6h", "accesses, each halved every 6 hours", "accesses a day", 1),
    FeatureSpec("decayed_1d", "accesses, each halved every day", "accesses a day", 1),
    FeatureSpec("decayed_7d", "accesses, each halved every 7 days", "accesses a day", 1),
    FeatureSpec("decayed_30d", "accesses, each halved every 30 days", "accesses a day", 1),
    FeatureSpec("active_24h", "hours with an access in the last 24 hours", "hours a day", 1),
    FeatureSpec("active_7d", "hours with an access in the last 7 days", "hours a day", 1),
    FeatureSpec("active_30d", "hours with an access in the last 30 days", "hours a day", 1),
    FeatureSpec("gap_mean_s", "mean time between hours with an access", "seconds"),
    FeatureSpec("gap_spread_s", "standard deviation of that time", "seconds"),
    FeatureSpec("overdue", "recency over the mean gap, at most 10; 10 without a gap", "ratio", -1),
    FeatureSpec("day_ago_1h", "accesses in the hour that begins a day ago", "accesses"),
    FeatureSpec("week_ago_24h", "accesses in the day that begins a week ago", "accesses"),
    FeatureSpec("log_size", "natural logarithm of 1 + size", "log bytes"),
    FeatureSpec("age_share", "time since the first access over the last 30 days that the history covers", "0–1"),
    FeatureSpec("prefix_heat", "mean of the prefix's other objects in the last 7 days", "accesses a day", 1),
    FeatureSpec("file_type", "group of the key's suffix", "index"),
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
SOURCE_SIX: tuple[str, ...] = NAMES[:6]
MODEL_FEATURES: tuple[str, ...] = tuple(name for name in NAMES if name not in NAMES[6:9])
"""Long raw counts hurt under drift, so models see their rates; the counts are kept for baselines and display."""
TREND: dict[str, int] = {feature.name: feature.trend for feature in FEATURES}


def columns(names: tuple[str, ...]) -> list[int]:
    """Positions of features in a matrix whose columns are NAMES."""
    return [NAMES.index(name) for name in names]


@dataclass(frozen=True)
class Rows:
    """Feature rows of (object, cut) pairs."""

    object: Ints
    cut: Ints
    X: Matrix
    """One row a pair, columns in the order of NAMES."""


class FeatureBuilder:
    """Features as of any times over one history; sums over windows are differences of running totals.

    Cuts must lie on full hours, or after the last row: then no hour is half known. `snapshot` takes any time.
    """

    def __init__(self, history: History, catalogue: Catalogue) -> None:
        self.history = history
        self.catalogue = catalogue
        self.events = _Rows(history.object, history.ts, history.objects)
        counts = history.reads + history.writes
        self._count = _total(counts)
        self._bytes = _total(history.bytes_read)
        self._partial = _total(history.partial_uploads)
        self.first_ts = np.full(history.objects, np.iinfo(np.int64).max)
        known = self.events.start[:-1] < self.events.start[1:]
        self.first_ts[known] = history.ts[self.events.start[:-1][known]]
        self._hours(counts)

    def _hours(self, counts: Ints) -> None:
        """Collapse the rows to hours with an access, and run decay and gaps along each object's hours."""
        history = self.history
        hour = history.ts // HOUR
        new = np.ones(len(history), bool)
        new[1:] = (np.diff(hour) != 0) | (np.diff(history.object) != 0)
        first = np.flatnonzero(new)
        last = np.append(first[1:], len(history)) - 1 if len(first) else first
        owner, ts = history.object[first], history.ts[last]
        self.cells = _Rows(owner, ts, history.objects)
        follows = np.zeros(len(first), bool)
        follows[1:] = np.diff(owner) == 0
        gap = np.where(follows, np.diff(hour[first], prepend=0), 0)
        self._gap, self._gap2 = _total(gap), _total(gap * gap)
        cell_counts = np.add.reduceat(counts, first) if len(first) else counts[:0]
        decayed = _decayed(self.cells, cell_counts.astype(float), follows)
        # An empty history keeps one cell that no object owns, so that lookups below need no special case.
        self._decayed = decayed if len(decayed) else np.zeros((1, len(HALF_LIVES)))
        self._cell_ts = ts if len(ts) else np.zeros(1, np.int64)

    def known(self, cut: int) -> Ints:
        """Objects with an access before the cut that are there at it: neither ended nor yet to come."""
        return np.flatnonzero((self.first_ts < cut) & self.catalogue.there(cut))

    def reads_between(self, owner: Ints, begin: Ints, end: Ints) -> Ints:
        """Reads in [begin, end) of (object, begin, end) triples: the labels.

        An object that ends in between counts by its reads before the end: nobody reads what was deleted, so without
        any it was not read. One that its owner writes anew counts by its later reads too.
        """
        total = _total(self.history.reads)
        return total[self.events.position(owner, end)] - total[self.events.position(owner, begin)]

    def rows(self, owner: Ints, cut: Ints, prefix_heat: Floats | None = None) -> Rows:
        """Features of (object, cut) pairs. prefix_heat: given when the pairs are not all objects known at their cut."""
        column: dict[str, npt.NDArray[np.generic]] = {}
        exposure = {name: _days(np.minimum(cut - self.history.begin, width)) for name, width in WINDOWS.items()}
        self._windows(column, owner, cut, exposure)
        self._rhythm(column, owner, cut, exposure)
        if prefix_heat is None:
            prefix_heat = self._prefix_heat(owner, cut, np.asarray(column["rate_7d"], float))
        column["prefix_heat"] = prefix_heat
        column["age_share"] = _days(np.minimum(cut - self.first_ts[owner], WINDOWS["30d"])) / exposure["30d"]
        column["log_size"] = np.log1p(self.catalogue.size_at(owner, cut))
        column["file_type"] = self.catalogue.file_type[owner]
        column["hour_of_day"] = cut // HOUR % 24
        column["day_of_week"] = (cut // DAY + 3) % 7  # 1970-01-01 was a Thursday
        X = np.empty((len(owner), len(NAMES)), np.float32)
        for place, name in enumerate(NAMES):
            X[:, place] = column[name]
        return Rows(owner, cut, X)

    def _windows(self, column: Columns, owner: Ints, cut: Ints, exposure: dict[str, Floats]) -> None:
        """Counts, bytes and their rates over the windows that end at the cut, and the same times a day and week ago."""
        at = self.events.position(owner, cut)
        for name, width in WINDOWS.items():
            since = self.events.position(owner, cut - width)
            column[f"access_{name}"] = count = self._count[at] - self._count[since]
            column[f"rate_{name}"] = count / exposure[name]
            column[f"bytes_{name}"] = (self._bytes[at] - self._bytes[since]) / exposure[name]
            if name == "24h":
                column["partial_upload"] = self._partial[at] > self._partial[since]
                column["day_ago_1h"] = self._count[self.events.position(owner, cut - DAY + HOUR)] - self._count[since]
            if name == "7d":
                column["week_ago_24h"] = self._count[self.events.position(owner, cut - 6 * DAY)] - self._count[since]
        column["access_total"] = self._count[at] - self._count[self.events.start[owner]]

    def _rhythm(self, column: Columns, owner: Ints, cut: Ints, exposure: dict[str, Floats]) -> None:
        """Recency, decayed rates, active hours and gaps."""
        at = self.cells.position(owner, cut)
        start = self.cells.start[owner]
        has, last = at > start, np.maximum(at - 1, 0)
        since_last = np.where(has, cut - self._cell_ts[last], NEVER)
        recency = np.minimum(since_last, NEVER) / SECOND
        column["recency_s"] = recency
        for place, (name, half_life) in enumerate(HALF_LIVES.items()):
            # The kernel's mass over the days that are known turns the decayed count into a rate a day.
            mass = (1 - np.exp2(-_days(cut - self.history.begin) * DAY / half_life)) * half_life / np.log(2) / DAY
            value = self._decayed[last, place] * np.exp2(-since_last / half_life)
            column[f"decayed_{name}"] = np.where(has, value / mass, 0.0)
        for name in ("24h", "7d", "30d"):
            hours = at - self.cells.position(owner, cut - WINDOWS[name])
            column[f"active_{name}"] = hours / exposure[name]
        gaps = np.maximum(at - start - 1, 1)
        mean = (self._gap[at] - self._gap[start]) / gaps
        square = (self._gap2[at] - self._gap2[start]) / gaps
        column["gap_mean_s"] = mean * 3600
        column["gap_spread_s"] = np.sqrt(np.maximum(square - mean**2, 0)) * 3600
        due = recency / np.maximum(mean * 3600, 1)
        column["overdue"] = np.where(mean > 0, np.minimum(due, OVERDUE_CAP), OVERDUE_CAP)

    def _prefix_heat(self, owner: Ints, cut: Ints, rate: Floats) -> Floats:
        """Mean over the other objects known at the cut, so that an object's own accesses are not counted twice."""
        _, moment = np.unique(cut, return_inverse=True)
        group = moment * len(self.catalogue.prefixes) + self.catalogue.prefix[owner]
        others = np.bincount(group)[group] - 1
        heat = np.bincount(group, rate)[group] - rate
        return np.asarray(np.maximum(heat / np.maximum(others, 1), 0.0))


def snapshot(history: History, catalogue: Catalogue, as_of: int, prefix_heat: Floats | None = None) -> Matrix:
    """Features of every object as of any time, (objects × NAMES); later rows of the history change nothing."""
    past = history.before(as_of)
    owner = np.arange(history.objects)
    cut = np.full(history.objects, as_of)
    return FeatureBuilder(past, catalogue).rows(owner, cut, prefix_heat).X


class _Rows:
    """Positions in rows sorted by (object, time), by binary search over one combined code."""

    def __init__(self, owner: Ints, ts: Ints, objects: int) -> None:
        self.ts = ts
        self.zero = int(ts.min()) if len(ts) else 0
        self.stride = (int(ts.max()) - self.zero if len(ts) else 0) + 2
        self.times: Ints | None = None
        offset = ts - self.zero
        if objects * self.stride > MOST_CODE:  # such as a million objects over a year: places stand for times
            self.times, offset = np.unique(ts, return_inverse=True)
            self.stride = len(self.times) + 1
        self.code = owner * self.stride + offset
        self.start = np.searchsorted(owner, np.arange(objects + 1))

    def position(self, owner: Ints, t: Ints) -> Ints:
        """Index of the first row of each object at or after t: running totals up to it hold what was before t."""
        if self.times is not None:
            return np.searchsorted(self.code, owner * self.stride + np.searchsorted(self.times, t))
        offset = np.clip(t - self.zero, 0, self.stride - 1)
        return np.searchsorted(self.code, owner * self.stride + offset)


def _days(span: Ints) -> Floats:
    """Days of exposure, an hour at least."""
    return np.maximum(span, HOUR) / DAY


def _total(values: Ints) -> Ints:
    """Running total with a leading zero: total[j] − total[i] is the sum of rows i … j − 1."""
    return np.concatenate(([0], np.cumsum(values, dtype=np.int64)))


def _decayed(cells: _Rows, counts: Floats, follows: npt.NDArray[np.bool_]) -> Floats:
    """Exponentially decayed counts at each cell, (cells × HALF_LIVES): one pass along the cells' rank in their object.

    A global running sum would lose small objects behind large ones; the k-th cells of all objects are done at once.
    """
    elapsed = np.diff(cells.ts, prepend=0)
    lives = np.array(list(HALF_LIVES.values()), float)
    keep = np.where(follows[:, None], np.exp2(-np.maximum(elapsed, 0)[:, None] / lives), 0.0)
    value = np.repeat(counts[:, None], len(lives), axis=1)
    length = np.diff(cells.start)
    longest_first = np.argsort(-length, kind="stable")
    begin, length = cells.start[:-1][longest_first], length[longest_first]
    for rank in range(1, int(length[0]) if len(length) else 0):
        here = begin[: np.searchsorted(-length, -rank)] + rank
        value[here] += value[here - 1] * keep[here]
    return value
