"""What the loops over objects, classes and days work on: arrays by name, shapes [object, day] and [class, object]."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]

WRITTEN, DELETED = 1, 2
STAY, TIMEOUTS, RATE, VALUES, VOTE, HEAT, FOLLOW = range(7)
NEVER = 1e9
IDLE_BINS, RATE_BINS, RECENT_BINS = 14, 9, 3
CELLS = IDLE_BINS * RATE_BINS * RECENT_BINS
HALF_LIVES_DAYS = (60.0, 15.0)
PRIOR_DAYS = (20.0, 10.0)
"""The memories of the rates, and for how many days of its own what is known of its like counts for an object."""
LEAST_OBJECT_DAYS = 200.0
"""A cohort that was watched for less goes by the mean of all objects."""
REFIT_DAYS = 30
"""How often rules are learned anew, and tried on days that they had not seen."""
STORAGE, REQUESTS, RETRIEVAL, MOVE, EARLY, COMPONENTS = range(6)
"""What is paid for, and how many kinds there are."""


class Grid(NamedTuple):
    """What happened to n objects on each of T days, as known at a day's end."""

    reads: Floats
    """[n, T] read requests."""
    share: Floats
    """[n, T] bytes read over the object's size."""
    event: Bytes
    """[n, T] WRITTEN: the owner wrote the object anew before the day's reads; DELETED: and removed it at its end."""
    birth: Ints
    """[n] the day of the first row; T for an object without one."""
    idle: Ints
    """[n, T] days since the last read at a day's beginning, or since birth."""
    recent: Ints
    """[n, T] of the seven days before, those with a read."""
    cohort: Ints
    """[n] dense number of the objects that are taken to be read alike."""


class Ladder(NamedTuple):
    """What the objects cost in each of k classes; class 0 is the one that they are written to."""

    day: Floats
    """[k, n] $ a day to keep, with what is billed an object."""
    get: Floats
    """[k] $ a read request."""
    full: Floats
    """[k, n] $ to retrieve all of an object once."""
    change: Floats
    """[k, k] $ of requests that a change from one class to another takes."""
    put: float
    """$ to write an object anew."""
    min_days: Ints
    """[k] days that are paid at least."""
    may: npt.NDArray[np.bool_]
    """[k, n] whether a change to the class can pay at all: tiny objects stay."""
    base: Ints
    """[n] the class that an object is kept in while it is read: 0, or the managed class."""
    managed: int
    """The class that prices by idle days; −1: none."""
    steps_after: Floats
    """[s] of the managed class: idle days after which each step holds."""
    steps_day: Floats
    """[s, n] and $ a day from then on."""
    parts: int = 1
    """Columns of a day: where there are more, all days and $ a day here are told in columns."""


class Rates(NamedTuple):
    """Expected reads a day as of the beginning of each day: [memory, n, T]."""

    full: Floats
    """In whole objects."""
    reads: Floats
    """In requests."""


class Rule(NamedTuple):
    """Ways to decide, one element each."""

    kind: Ints
    """One of STAY, TIMEOUTS, RATE, VALUES, VOTE, HEAT, and FOLLOW: the class that stands in Signals.cell."""
    warm: Floats
    """TIMEOUTS: idle days to the second class; RATE: the horizon in days."""
    cold: Floats
    """TIMEOUTS: idle days to the last class; RATE and VALUES: by what a change is made dearer."""
    promote: Floats
    """TIMEOUTS: back after 1 read day, or 2 in seven; 0: never. RATE: which memory of Rates."""
    regret: Floats
    """Above 0: back once reads have been overpaid by so many times what coming back costs."""


class Signals(NamedTuple):
    """What the voters go by beside the grid."""

    rates: Rates
    cell: Ints
    """[n, T] the cell of `tables` that an object is in."""
    tables: Floats
    """[fits, CELLS, 2·(k−1)] value of each class over the base class in $ a GB, with no and with all days left."""
    fit_at: Ints
    """[T] the newest fit as of a day; −1: none yet."""
    rate_at: Ints
    """[T] the rule that speaks for the rates as of a day."""
    timeouts_at: Ints
    """[T] and for the timeouts."""
