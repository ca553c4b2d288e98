"""The rows that a tier model learns from and is judged on: features at past times, labelled by what came next.

Split by time, never at random: train, then calibrate, then test; no label's window reaches into the next part.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.errors import NotEnoughData
from ml.features import NAMES, FeatureBuilder, Matrix
from ml.history import DAY, HOUR, Catalogue, History, Ints

TRAIN_SHARE, KNOWN_SHARE = 0.55, 0.70  # of the span: train before the first, calibrate between, test after the second
SHORT_SPAN = 14 * DAY
STEP_BY_DAY = 6 * HOUR  # between two cuts of a day's horizon, so that hours of the day are seen
LEAST_POSITIVES = 10
PAIRS_AT_ONCE = 100_000
"""Pairs whose features are made at once: 60 MiB."""


class Part(StrEnum):
    """What a row is for."""

    TRAIN = "train"
    """Models are fitted on it."""
    CALIBRATE = "calibrate"
    """The newest part before the test: scores become probabilities on it."""
    TEST = "test"
    """Later than all that the model saw: every reported number comes from it."""


@dataclass(frozen=True)
class Limits:
    """Most rows of each part; the rest are left out by a seeded draw. They bound training to seconds."""

    train: int = 20_000
    calibrate: int = 15_000
    test: int = 40_000
    pairs: int = 1_000_000
    """Most (object, cut) pairs that are drawn from; above it some cuts, and then some objects, stand for all."""
    cuts: int = 240
    """Cuts that are kept at least: rows of one object depend on each other, so objects tell more than times do."""


@dataclass(frozen=True)
class Rows:
    """Rows of one part."""

    X: Matrix
    """(rows × ml.features.NAMES)."""
    y: npt.NDArray[np.bool_]
    """Whether the object was read in [cut, cut + horizon)."""
    object: Ints
    cut: Ints
    """As of when each row is, microseconds."""

    def joined(self, later: Rows, most: int, rng: np.random.Generator) -> Rows:
        """These rows and later ones; above `most` a draw of them."""
        n = len(self.y) + len(later.y)
        kept = np.sort(rng.choice(n, most, replace=False)) if n > most else np.arange(n)
        columns = ((getattr(self, field.name), getattr(later, field.name)) for field in fields(self))
        return Rows(*(np.concatenate(pair)[kept] for pair in columns))


@dataclass(frozen=True)
class Dataset:
    """The three parts and what they were made from."""

    parts: dict[Part, Rows]
    horizon: int
    """How far ahead the label looks, microseconds."""
    span: tuple[datetime, datetime]
    """From when until when accesses are known."""


def horizon_of(history: History, end: int) -> int:
    """How far ahead the label looks: a day, or an hour where events span less than 14 days."""
    return HOUR if end - history.begin < SHORT_SPAN and not history.daily else DAY


def build(
    history: History,
    catalogue: Catalogue,
    end: int,
    seed: int,
    limits: Limits | None = None,
    horizon: int | None = None,
) -> Dataset:
    """Rows of every object known at each cut. end: the time until which accesses are known, microseconds.

    horizon: how far ahead the label looks, microseconds; by default as `horizon_of` says.
    Raises NotEnoughData when a part has fewer than 10 positives or 10 negatives.
    """
    limits = limits or Limits()
    horizon = horizon or horizon_of(history, end)
    step = step_of(horizon, daily=history.daily)
    cuts = np.arange(-(-history.begin // step) * step + step, end - horizon + 1, step)
    rng = np.random.default_rng(seed)
    builder = FeatureBuilder(history, catalogue)
    owner, cut = _pairs(builder, _thinned(cuts, history.objects, limits, rng), limits.pairs, rng)
    y = builder.reads_between(owner, cut, cut + horizon) > 0
    drawn = {}
    for part, (since, until) in _bounds(history.begin, end).items():
        chosen = np.flatnonzero((cut >= since) & (cut + horizon <= until))
        most: int = getattr(limits, part.value)
        if len(chosen) > most:
            chosen = np.sort(rng.choice(chosen, most, replace=False))
        positives = int(y[chosen].sum())
        if min(positives, len(chosen) - positives) < LEAST_POSITIVES:
            raise NotEnoughData(
                f"of {len(chosen)} rows to {part} on, {positives} were read within {horizon // HOUR} h: "
                f"{LEAST_POSITIVES} that were and {LEAST_POSITIVES} that were not are needed"
            )
        drawn[part] = chosen
    kept = np.sort(np.concatenate(list(drawn.values())))
    X = _features(builder, owner, cut, kept)
    parts = {
        part: Rows(X[np.searchsorted(kept, chosen)], y[chosen], owner[chosen], cut[chosen])
        for part, chosen in drawn.items()
    }
    return Dataset(parts, horizon, (_moment(history.begin), _moment(end)))


def step_of(horizon: int, *, daily: bool) -> int:
    """Time between two cuts: a day of daily rows, else the hour of an hour's horizon or a quarter of a day."""
    if daily:
        return DAY
    return HOUR if horizon < DAY else STEP_BY_DAY


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _bounds(begin: int, end: int) -> dict[Part, tuple[int, int]]:
    trained, known = (begin + int(share * (end - begin)) for share in (TRAIN_SHARE, KNOWN_SHARE))
    return {Part.TRAIN: (begin, trained), Part.CALIBRATE: (trained, known), Part.TEST: (known, end)}


def _thinned(cuts: Ints, objects: int, limits: Limits, rng: np.random.Generator) -> Ints:
    """Where all pairs would be too many, one cut of each of as many stretches of time: drawn, to meet all hours."""
    most = max(limits.cuts, limits.pairs // max(objects, 1))
    if objects * len(cuts) <= limits.pairs or len(cuts) <= most:
        return cuts
    return np.array([rng.choice(some) for some in np.array_split(cuts, most)])


def _features(builder: FeatureBuilder, owner: Ints, cut: Ints, kept: Ints) -> Matrix:
    """Features of the pairs that are kept, some cuts at a time: a cut is never parted, since prefixes tell of all."""
    begins = np.flatnonzero(np.diff(cut, prepend=-1))
    ends = np.append(begins[1:], len(cut))
    X = np.empty((len(kept), len(NAMES)), np.float32)
    start = 0
    while start < len(begins):
        stop = max(start + 1, int(np.searchsorted(ends, begins[start] + PAIRS_AT_ONCE, side="right")))
        since, until = int(begins[start]), int(ends[stop - 1])
        here = slice(*np.searchsorted(kept, (since, until)))
        X[here] = builder.rows(owner[since:until], cut[since:until]).X[kept[here] - since]
        start = stop
    return X


def _pairs(builder: FeatureBuilder, cuts: Ints, most: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """(object, cut) of every object at every cut after its first access, of a draw of the objects when too many."""
    objects = builder.history.objects
    kept = np.ones(objects, bool)
    if objects * len(cuts) > most:
        kept[rng.permutation(objects)[max(1, most // len(cuts)) :]] = False
    known = [owners[kept[owners]] for owners in (builder.known(int(cut)) for cut in cuts)]
    if not known:
        raise NotEnoughData("the accesses span less than one horizon")
    return np.concatenate(known), np.repeat(cuts, [len(owners) for owners in known])
