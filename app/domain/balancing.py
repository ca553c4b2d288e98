"""To which site a read goes: one reader's local knowledge in, one choice out, a few microseconds (step: route).

The one implementation of routing: the API, the SDK and the simulator call it. Sites are numbered 0 … n−1; times are
seconds of one clock; nothing here reads a clock, and chance comes from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain import breakers
from app.domain.breakers import Breaker
from app.domain.endpoint_state import SILENCE_S, EndpointState

COLD = 5
"""Under so many answers of a site reads take turns (source 000: cold start)."""
FRESH_S = 1.0
"""Requests in flight ÷ answers a second, under which what is known is fresh: answers come back before much is sent."""
HEDGE_MOST_MS, HEDGE_EVERY, HEDGES_SAVED = 250.0, 20, 20
"""A hedge leaves after this at the latest; there is one for so many reads, and so many may be saved up."""
BIAS = 4.0
"""Full risk makes a site's score so many times dearer, beyond once."""
RISK_OLD_S = 30.0
"""Risk that was not heard of anew for so long counts as none."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A site's number and why, in one word: cold, only, best, two, turn, primary, reroute, last."""

    site: int
    why: str


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second request, to another site, if the first has not answered after so long."""

    site: int
    after_ms: float


class Balancer:
    """Counts what is sent and learned of each site and, each second, looks at the breakers; takes turns."""

    breaks = False
    """Whether slow and failing sites are left for a while."""

    def __init__(self, sites: int, seed: int, sla_ms: float = 300.0) -> None:
        self.states = [EndpointState() for _ in range(sites)]
        self.breakers = [Breaker() for _ in range(sites)]
        self.sla_ms = sla_ms
        self._turn = seed % max(1, sites)
        self._drawn = seed * 2654435761 & 0xFFFFFFFF
        self._per_s = 0.0
        self._dearer = [1.0] * sites

    def choose(self, now: float, among: Sequence[int]) -> Choice:
        """One of the sites that hold what is read; `among` is never empty. Open sites are chosen only if all are."""
        usable = [n for n in among if not self.breakers[n].is_open] or list(among)
        if len(usable) == 1:
            return Choice(usable[0], "only")
        states = self.states
        if any(states[n].answered < COLD for n in usable):
            return Choice(self._next(usable), "cold")
        return self._choose(now, usable)

    def _choose(self, now: float, usable: list[int]) -> Choice:  # noqa: ARG002 - others look at the time
        return Choice(self._next(usable), "turn")

    def _next(self, usable: list[int]) -> int:
        self._turn += 1
        return usable[self._turn % len(usable)]

    def sent(self, site: int) -> None:
        """Counts a request that leaves for a site."""
        self.states[site].in_flight += 1

    def learned(self, site: int, now: float, latency_ms: float, *, ok: bool, was_sent: bool = True) -> None:
        """Takes in how a request to a site ended."""
        self.states[site].learned(now, latency_ms, ok=ok, was_sent=was_sent)

    def tick(self, now: float) -> list[int]:
        """Called each second: looks at the breakers and returns the sites to be probed."""
        self._per_s = sum(state.recent(now)[0] for state in self.states) / 10.0
        if not self.breaks:
            return []
        breakers.tick(self.breakers, self.states, now, self.sla_ms)
        return [n for n, breaker in enumerate(self.breakers) if breaker.wants_probe(now)]

    def hedge(self, now: float, site: int, among: Sequence[int]) -> Hedge | None:  # noqa: ARG002 - most never do
        """When and where a second request may follow one to `site`; None: never."""
        return None

    def spend(self) -> bool:
        """Whether a hedge that is due may leave."""
        return False

    def avoids(self, site: int, now: float) -> bool:  # noqa: ARG002 - risk grows old
        """Whether reads that might go to a site go elsewhere."""
        return self.breakers[site].is_open

    def score(self, site: int, now: float) -> float:
        """Milliseconds that a request would take behind those in flight, were each to take the recent peak."""
        state = self.states[site]
        peak = state.peak_ms if now - state.last_at <= SILENCE_S else state.peak_at(now)
        return peak * (state.in_flight + 1) * self._dearer[site]

    def _best(self, now: float, usable: Sequence[int]) -> int:
        """The site of the lowest score."""
        best, lowest = usable[0], float("inf")
        for site in usable:
            value = self.score(site, now)
            if value < lowest:
                best, lowest = site, value
        return best

    def _draw(self, below: int) -> int:
        """A number under `below`: a linear congruential generator (Numerical Recipes), fixed by the seed."""
        self._drawn = (self._drawn * 1664525 + 1013904223) & 0xFFFFFFFF
        return self._drawn * below >> 32

    def _two(self, now: float, usable: list[int]) -> int:
        """The better of two taken by chance."""
        first = self._draw(len(usable))
        second = self._draw(len(usable) - 1)
        one, other = usable[first], usable[second + (second >= first)]
        return one if self.score(one, now) <= self.score(other, now) else other


class RoundRobin(Balancer):
    """Takes turns, whatever happens."""

    def choose(self, now: float, among: Sequence[int]) -> Choice:  # noqa: ARG002 - it looks at nothing
        """The next in turn."""
        return Choice(self._next(list(among)), "turn")


class Reactive(Balancer):
    """Takes turns among sites whose breaker is closed."""

    breaks = True


class Ewma(Balancer):
    """The lowest moving average."""

    def _choose(self, now: float, usable: list[int]) -> Choice:  # noqa: ARG002
        return Choice(min(usable, key=lambda n: self.states[n].ewma_ms), "best")


class PeakEwma(Balancer):
    """The better of two by chance, by peak latency times requests in flight (Finagle's P2C with peak EWMA)."""

    def _choose(self, now: float, usable: list[int]) -> Choice:
        return Choice(self._two(now, usable), "two")


class PeakEwmaReactive(PeakEwma):
    """The floor that others are measured by: the same with breakers."""

    breaks = True


class Fresh(Balancer):
    """The default without a model: the best of all while answers are fresh, else of two; breakers and hedges."""

    breaks = True

    def __init__(self, sites: int, seed: int, sla_ms: float = 300.0) -> None:
        super().__init__(sites, seed, sla_ms)
        self._saved = HEDGE_EVERY * HEDGES_SAVED // 4

    def _choose(self, now: float, usable: list[int]) -> Choice:
        if not self.is_fresh():
            return Choice(self._two(now, usable), "two")
        return Choice(self._best(now, usable), "best")

    def is_fresh(self) -> bool:
        """Whether answers come back soon enough to send everything where it is best."""
        waiting = sum(state.in_flight for state in self.states)
        return waiting <= 1 or waiting < FRESH_S * self._per_s

    def sent(self, site: int) -> None:
        """Counts a request that leaves; each saves up for hedges."""
        super().sent(site)
        self._saved = min(HEDGE_EVERY * HEDGES_SAVED, self._saved + 1)

    def hedge(self, now: float, site: int, among: Sequence[int]) -> Hedge | None:
        """To the best other site, late enough to be rare and early enough to answer within the SLA."""
        others = [n for n in among if n != site and not self.breakers[n].is_open]
        if not others or self.states[site].answered < COLD:
            return None
        best = self._best(now, others)
        if self.states[best].ewma_ms > self.sla_ms / 2:
            return None  # it would come too late as well, and where all are slow it would only add to the load
        after = min(max(self.states[site].p95_ms, self.sla_ms - 1.5 * self.states[best].p75_ms), HEDGE_MOST_MS)
        return Hedge(best, after)

    def spend(self) -> bool:
        """Whether enough is saved up."""
        if self._saved < HEDGE_EVERY:
            return False
        self._saved -= HEDGE_EVERY
        return True


class Foresight(Fresh):
    """The default with what a model expects of each site: dearer by its risk, before it shows.

    The model never opens a breaker.
    """

    def __init__(self, sites: int, seed: int, sla_ms: float = 300.0) -> None:
        super().__init__(sites, seed, sla_ms)
        self._heard = float("-inf")

    def foresee(self, risks: Sequence[float], now: float) -> None:
        """Takes in the risk of each site, 0 … 1: it is dearer by the risk beyond the least."""
        self._heard, least = now, min(risks)
        self._dearer = [1.0 + BIAS * (risk - least) for risk in risks]

    def tick(self, now: float) -> list[int]:
        """As without a model; risk that was not heard of anew for long counts as none."""
        if now - self._heard > RISK_OLD_S:
            self._dearer = [1.0] * len(self._dearer)
        return super().tick(now)

    def avoids(self, site: int, now: float) -> bool:
        """Whether reads go elsewhere: its breaker is open, or it were the best if not for its risk."""
        if super().avoids(site, now):
            return True
        if self._dearer[site] == 1.0:
            return False
        closed = [n for n, breaker in enumerate(self.breakers) if not breaker.is_open]
        plain = min(closed, key=lambda n: self.score(n, now) / self._dearer[n])
        return plain == site and self._best(now, closed) != site


class SourceRule(Balancer):
    """The rule of the source document: the primary, unless a forest says that it will take longer than the threshold.

    `expect` hands over what the forest says of each site; the primary is site 0.
    """

    def __init__(self, sites: int, seed: int, sla_ms: float = 300.0) -> None:
        super().__init__(sites, seed, sla_ms)
        self._expected = [0.0] * sites

    def expect(self, latencies_ms: Sequence[float]) -> None:
        """Takes in the expected latency of each site."""
        self._expected = list(latencies_ms)

    def avoids(self, site: int, now: float) -> bool:  # noqa: ARG002
        """Whether the primary is left."""
        return site == 0 and self._expected[0] > self.sla_ms

    def _choose(self, now: float, usable: list[int]) -> Choice:  # noqa: ARG002
        primary = min(usable)
        if self._expected[primary] <= self.sla_ms:
            return Choice(primary, "primary")
        return Choice(min((n for n in usable if n != primary), key=lambda n: self._expected[n]), "reroute")


POLICIES: dict[str, type[Balancer]] = {
    "round_robin": RoundRobin,
    "reactive": Reactive,
    "ewma": Ewma,
    "peak_ewma": PeakEwma,
    "peak_ewma_reactive": PeakEwmaReactive,
    "source_rule": SourceRule,
    "foretide_no_model": Fresh,
    "foretide": Foresight,
}
"""By the name that settings, the simulator and the API give them."""
FLOOR = "peak_ewma_reactive"
