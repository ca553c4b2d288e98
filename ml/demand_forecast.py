"""What is expected of every object now, and between which counts it lies: how a demand model serves (step: predict)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from app.errors import NotEnoughData
from ml import demand_spread
from ml.demand import PRIOR_DAYS, Expected, expect
from ml.demand_models import Boosted
from ml.demand_rows import Observer, Rows
from ml.demand_spread import MOST_ROWS, QUANTILES, Known
from ml.demand_training import Judged, said
from ml.features import Matrix
from ml.history import DAY, Catalogue, Floats, History, Ints
from ml.serving import pack, unpacked

HORIZONS = (1, 7, 30)
"""Days."""
LATER_ROWS = 10_000
"""Most rows of the time since the training whose counts came true and are looked at."""
SEED = 7


@dataclass(frozen=True)
class Forecast:
    """Of every object: reads and bytes within a horizon, and reads that are passed downwards and upwards with 10 %."""

    reads: Floats
    bytes: Floats
    low: Floats
    middle: Floats
    """Reads that are passed as often as not."""
    high: Floats

    @property
    def quantiles(self) -> Floats:
        """(objects × QUANTILES)."""
        return np.column_stack((self.low, self.middle, self.high))


@dataclass(frozen=True)
class Past:
    """What came of all objects, with those that have ended since: by it spreads are renewed, as they were learned."""

    observer: Observer
    """Of any horizon."""
    ids: Ints
    """Of its objects by dense index."""
    end: int
    """Until when accesses are known in it, microseconds."""


@dataclass(frozen=True)
class Learned:
    """One horizon of a demand model."""

    days: int
    champion: str
    fitted: Boosted
    trial: Boosted
    """Fitted on the first 70 % alone, as it was judged: it has not seen the rest, of which others are judged."""
    known: Known
    """Of these rows the spread is made, and of later ones that came true since."""
    end: int
    """Until when accesses were known as it was trained, microseconds."""

    @classmethod
    def of(cls, days: int, judged: Judged, fitted: Boosted, ids: Ints) -> Self:
        """What is kept of a training. fitted: on all that is known. ids: of the objects by dense index."""
        return cls(days, judged.champion, fitted, judged.trial, _kept(judged.known, ids), judged.end)

    @classmethod
    def baseline_of(cls, days: int, judged: Judged, ids: Ints) -> Self:
        """The best baseline of the training in its place."""
        return cls(days, judged.baseline, Boosted(), Boosted(), _kept(judged.baseline_known, ids), judged.end)

    def forecast(self, rows: Rows, as_of: int, past: Past) -> Forecast:
        """Of rows as of now, by the spread as of now."""
        mean = self.fitted.means(rows, self.champion)
        ahead = past.observer.looking(self.days * DAY)
        spread = demand_spread.fit(self.known_by(ahead, past.end, past.ids), as_of, ahead.horizon)
        quantiles = spread.quantiles(mean, rows.before)
        return Forecast(mean, mean * rows.bytes_a_read, *quantiles.T)

    def known_by(self, observer: Observer, as_of: int, ids: Ints) -> Known:
        """The rows that its spread is made of as of a time. ids: of the objects by dense index."""
        cuts = observer.cuts(self.end - observer.horizon + 1, as_of)  # the training knew no outcome of these
        if not len(cuts):
            return self.known
        try:
            rows = observer.rows(cuts, LATER_ROWS, np.random.default_rng(SEED))
        except NotEnoughData:  # no object was there
            return self.known
        return self.known.joined(named(said(rows, self.fitted.means(rows, self.champion)), ids))


def _kept(known: Known, ids: Ints) -> Known:
    if len(known) > MOST_ROWS:
        known = known.where(np.sort(np.random.default_rng(SEED).choice(len(known), MOST_ROWS, replace=False)))
    return named(known, ids)


def named(known: Known, ids: Ints) -> Known:
    """By the objects' own ids: dense indexes change from one history to the next."""
    return Known(known.mean, known.before, known.reads, ids[known.object], known.cut)


@dataclass(frozen=True)
class Forecaster:
    """A demand model: what it learned by horizon. Of the others Gamma–Poisson is asked."""

    learned: tuple[Learned, ...]

    def forecast(
        self, history: History, catalogue: Catalogue, as_of: int, X: Matrix, past: Past | None
    ) -> dict[int, Forecast]:
        """Of the objects that are there, by days of HORIZONS.

        X: ml.features.snapshot as of then, which must lie after the history. past: None where nothing is learned.
        """
        expected = expect(history, catalogue, as_of)
        found = {days: plain(expected, days) for days in HORIZONS}
        if not self.learned or past is None or not history.objects:
            return found
        observer = Observer(history, catalogue, DAY)
        for one in self.learned:
            rows = observer.looking(one.days * DAY).now(as_of, expected, X)
            found[one.days] = one.forecast(rows, as_of, past)
        return found

    def to_bytes(self) -> bytes:
        """An npz of plain arrays."""
        arrays = {}
        for one in self.learned:
            arrays[f"{one.days}.champion"] = np.array(one.champion)
            arrays[f"{one.days}.end"] = np.array(one.end)
            for name in ("fitted", "trial"):
                arrays[f"{one.days}.{name}"] = np.frombuffer(getattr(one, name).to_bytes(), np.uint8)
            arrays |= {f"{one.days}.{field.name}": getattr(one.known, field.name) for field in fields(Known)}
        return pack({"days": np.array([one.days for one in self.learned], np.int64), **arrays})

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first. Raises ArtifactRefused for other bytes, or a model of other features."""
        with unpacked(npz, "a demand model") as arrays:
            return cls(
                tuple(
                    Learned(
                        days,
                        arrays[f"{days}.champion"].item(),
                        Boosted.from_bytes(arrays[f"{days}.fitted"].tobytes()),
                        Boosted.from_bytes(arrays[f"{days}.trial"].tobytes()),
                        Known(**{field.name: arrays[f"{days}.{field.name}"] for field in fields(Known)}),
                        arrays[f"{days}.end"].item(),
                    )
                    for days in arrays["days"].tolist()
                )
            )


def plain(expected: Expected, days: int) -> Forecast:
    """What Gamma–Poisson says: the rate is Gamma, with the shape of the reads that it was made from."""
    reads, sizes = expected.within(days)
    shape = np.maximum(expected.reads * (expected.days + PRIOR_DAYS), 1e-6)
    return Forecast(reads, sizes, *(_beyond(level, reads, shape) for level in QUANTILES))


def _beyond(level: float, reads: Floats, shape: Floats) -> Floats:
    return demand_spread.quantile(level, np.maximum(reads, 1e-9), 1 / shape)
