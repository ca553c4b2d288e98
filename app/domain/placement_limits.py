"""What a plan's changes ask of sites with a capacity or a request rate, and which of them fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum

from app.domain.moves import Rush
from app.domain.placement_costs import Costs
from app.domain.placement_decisions import Decision, Verdict
from app.domain.placement_problem import SiteOption
from app.domain.placement_rows import DAY_S, Row, Use
from app.domain.states import MoveKind

SLACK = 1e-9
"""What sums of floating-point numbers may differ by, relative to a limit."""


@dataclass
class Traffic:
    """Of the objects decided: bytes that changes bring to each site, reads a second as it is and as it will be."""

    arriving: Counter[str] = field(default_factory=Counter)
    today: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    then: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, costs: Costs, decisions: Iterable[Decision]) -> None:
        """Counts decisions in; each object's reads go to the copy that is read."""
        for decision in decisions:
            rate = decision.item.demand.reads / DAY_S
            self.today[_site(costs, decision.today.primary)] += rate
            self.then[_site(costs, decision.chosen.primary)] += rate
            self.arriving += arriving(decision)

    def stand(self, reads: Mapping[str, float]) -> None:
        """Counts in reads a second of objects that are not decided."""
        self.today.update(reads)
        self.then.update(reads)

    def keeps(self, sites: Sequence[SiteOption]) -> bool:
        """Whether no site gets more than it may hold, or more to do than it may, than it has anyhow."""
        return all(
            (site.capacity_bytes is None or self.arriving[site.name] <= _room(site))
            and (site.max_request_rate is None or self.then[site.name] <= self._most(site) * (1 + SLACK))
            for site in sites
        )

    def rows(self, sites: Sequence[SiteOption], own: Traffic) -> list[Row]:
        """The sites' limits as rows over some of the objects, whose own traffic is not counted as standing.

        A site that is over its limit today gets nothing more.
        """
        found = []
        for site in sites:
            if site.capacity_bytes is not None:
                limit = max(float(site.capacity_bytes), site.stored_bytes)
                found.append(Row(Use.CAPACITY, limit, site.name, standing=site.stored_bytes))
            if site.max_request_rate is not None:
                standing = self.today[site.name] - own.today[site.name]
                found.append(Row(Use.REQUESTS, self._most(site), site.name, standing=standing))
        return found

    def _most(self, site: SiteOption) -> float:
        return max(site.max_request_rate or 0.0, self.today[site.name])


def arriving(decision: Decision) -> Counter[str]:
    """Bytes that a decision's moves bring to each site: a source stands until it is deleted."""
    found: Counter[str] = Counter()
    for move in decision.moves:
        if move.kind in (MoveKind.COPY, MoveKind.MOVE) and move.to_site is not None:
            found[move.to_site] += move.bytes
    return found


def fitting(decisions: Iterable[Decision], sites: Sequence[SiteOption], budget: Sequence[Row] = ()) -> list[Decision]:
    """Of changes that do not fit together those that rules demand, as long as they fit; the others are held.

    budget: what all changes of the day may use of dollars, bytes and moves.
    """
    room = {site.name: _room(site) for site in sites if site.capacity_bytes is not None}
    left = {row.use: row.limit for row in budget}
    result = []
    for decision in decisions:
        wanted, used = arriving(decision), _used(decision)
        fits = all(size <= room.get(name, size) for name, size in wanted.items())
        fits = fits and all(used[use] <= most for use, most in left.items())
        if decision.verdict is Verdict.MUST and fits:
            room = {name: most - wanted[name] for name, most in room.items()}
            left = {use: most - used[use] for use, most in left.items()}
            result.append(decision)
        else:
            result.append(replace(decision, verdict=Verdict.HELD, moves=()))
    return result


def _used(decision: Decision) -> dict[Use, float]:
    """What a change takes of the day's budgets."""
    moves = decision.moves
    return {
        Use.USD: fsum(move.one_off for move in moves),
        Use.BYTES: float(sum(move.bytes for move in moves)),
        Use.MOVES: float(len(moves)),
    }


def roomy(
    ways: Iterable[Sequence[Decision]], sites: Sequence[SiteOption], usual: Mapping[str, float], rushes: Iterable[Rush]
) -> list[Decision]:
    """Of changes for peaks those that fit the sites' capacities and request rates, what saves most first.

    ways: those that each peak may be met by, the best one first; of each the first that fits is taken.
    usual: reads a second by site without any peak; rushes: what other copies for peaks bring.
    """
    room = {site.name: _room(site) for site in sites if site.capacity_bytes is not None}
    limits = ((site.name, site.max_request_rate) for site in sites)
    rates = {name: most - usual.get(name, 0.0) for name, most in limits if most is not None}
    result, known = [], [rush for rush in rushes if rush.site in rates]
    for each in sorted(ways, key=lambda way: way[0].cost.total - way[0].today_cost.total):
        for decision in each:
            wanted, more = arriving(decision), [rush for rush in rushes_of(decision) if rush.site in rates]
            fits = all(size <= room.get(name, size) for name, size in wanted.items())
            if fits and all(_meanwhile(known, rush) <= rates[rush.site] for rush in more):
                room = {name: left - wanted[name] for name, left in room.items()}
                known += more
                result.append(decision)
                break
    return result


def rushes_of(decision: Decision) -> list[Rush]:
    """What the copies of a decision for a peak bring to their sites; another class brings nothing."""
    return Rush.of(decision.moves, decision.item.demand.reads / DAY_S)


def _meanwhile(rushes: Iterable[Rush], rush: Rush) -> float:
    """Reads a second at its site with those that others bring there in any part of the same time."""
    return rush.rate + fsum(
        other.rate
        for other in rushes
        if other.site == rush.site and other.begins < rush.ends and rush.begins < other.ends
    )


def _room(site: SiteOption) -> float:
    return max(0.0, float(site.capacity_bytes or 0) - site.stored_bytes)


def _site(costs: Costs, column: int) -> str:
    return costs.problem.sites[costs.pairs[column].site].name
