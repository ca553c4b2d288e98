"""What a benchmark hands back: our figure, the peer's, how many times better ours is, and the bar that it must pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """One row. `ratio` says how many times better we are than the peer, whatever the unit; `met` is ratio ≥ bar."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    bar: float

    @property
    def met(self) -> bool:
        """Whether the bar is passed."""
        return self.ratio >= self.bar

    def as_dict(self) -> dict[str, Any]:
        """The row as `foretide bench --json` prints it."""
        return {**asdict(self), "met": self.met}


def more(name: str, ours: float, peer: float, unit: str, bar: float) -> Result:
    """A figure of which more is better, such as a rate."""
    return Result(name, ours, peer, unit, ours / peer, bar)


def less(name: str, ours: float, peer: float, unit: str, bar: float = 1.0) -> Result:
    """A figure of which less is better, such as a time; the peer may be a limit, which the bar 1 keeps."""
    return Result(name, ours, peer, unit, peer / ours, bar)


def per_second(act: Callable[[], int], seconds: float) -> float:
    """Calls `act`, which says how much it has done, for about so long; how much it does a second."""
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        done += act()
    return done / elapsed


def sent_per_second(prepare: Callable[[], bytes], send: Callable[[bytes], int], seconds: float) -> float:
    """As `per_second`, but what is sent is prepared outside of the measured time."""
    done, elapsed, given_up = 0, 0.0, time.perf_counter() + 4 * seconds
    while elapsed < seconds and time.perf_counter() < given_up:
        body = prepare()
        started = time.perf_counter()
        done += send(body)
        elapsed += time.perf_counter() - started
    return done / elapsed


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not pass."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
