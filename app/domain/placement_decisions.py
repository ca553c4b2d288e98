"""From the cheapest set to a decision: the payback gate, the moves in order, and one sentence that says why.

A set is changed only if a rule is broken today or the saving clears the gate: at least `payback` times what the change
costs, with at least the wanted probability, and not again within the least residency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from app.domain.moves import PlannedMove
from app.domain.placement import (
    ReplicaSet,
    Split,
    breaches,
    monthly,
    solve,
    split,
    structures,
    today,
    with_reads,
)
from app.domain.placement_costs import Costs, price
from app.domain.placement_gate import believed, check, comes_back, expected, harm
from app.domain.placement_problem import READABLE, Item
from app.domain.placement_sets import Structure
from app.domain.placement_votes import ballots, voted
from app.domain.prices import MONTH_DAYS
from app.domain.pricing import Floats
from app.domain.states import MoveKind
from app.domain.votes import VOTERS, Ballot


class Verdict(StrEnum):
    """What was decided about an object."""

    STAY = "stay"
    """Nothing cheaper was found."""
    HELD = "held"
    """Something cheaper was found, but it did not clear the gate."""
    MOVE = "move"
    """The change clears the gate."""
    MUST = "must"
    """A rule is broken today, so the cheapest set that keeps all rules is taken."""
    PREWARM = "prewarm"
    """A recurring peak comes: a copy or a class for its time."""
    INFEASIBLE = "infeasible"
    """No set keeps all rules; nothing is changed."""


@dataclass(frozen=True)
class Decision:
    """What was decided about one object and why. `best` is the cheapest set, before the gate.

    The item's demand is the one believed in: other than expected where those who voted for the change believe so.
    """

    item: Item
    verdict: Verdict
    today: ReplicaSet
    today_cost: Split
    best: ReplicaSet | None
    best_cost: Split | None
    horizon_days: float
    breaches: tuple[str, ...]
    gate: tuple[str, ...]
    """What the gate held against the change."""
    probability: float
    reason: str
    moves: tuple[PlannedMove, ...]
    ballot: Ballot | None = None
    """What was said of the copy that is read, at the site where it lies or goes."""

    @property
    def changes(self) -> bool:
        """Whether anything is moved."""
        return self.verdict in (Verdict.MOVE, Verdict.MUST, Verdict.PREWARM)

    @property
    def cost(self) -> Split:
        """What the chosen set costs over the horizon."""
        return self.best_cost if self.changes and self.best_cost is not None else self.today_cost

    @property
    def chosen(self) -> ReplicaSet:
        """The set to hold from now on."""
        return self.best if self.changes and self.best is not None else self.today

    @property
    def monthly_delta(self) -> float:
        """$ a month more than today; negative when it saves."""
        return (self.cost.recurring - self.today_cost.recurring) * MONTH_DAYS / self.horizon_days

    @property
    def payback_days(self) -> float | None:
        """Days until the saving has paid for the change; None when it saves nothing."""
        if not self.changes or self.monthly_delta >= 0:
            return None
        return self.cost.one_off / -self.monthly_delta * MONTH_DAYS


def decide(costs: Costs, chosen: Sequence[ReplicaSet | None] | None = None) -> list[Decision]:
    """Decides for every object. `chosen`: the cheapest sets of `voted(costs)` as another solver found them.

    None: the closed form's. Unlike those, what mends a broken rule asks nobody.
    """
    best = solve(voted(costs)) if chosen is None else chosen
    shapes = structures(costs)
    broken = [breaches(costs, row, shape) for row, shape in enumerate(shapes)]
    mended = solve(replace(_keeping_classes(costs), may_read=None)) if any(broken) else [None] * len(shapes)
    return [_decide(costs, row, shape, broken[row], (best[row], mended[row])) for row, shape in enumerate(shapes)]


def believing(costs: Costs, decisions: Sequence[Decision]) -> Costs:
    """The same costs with the reads that each decision believes in."""
    items = tuple(decision.item for decision in decisions)
    if all(item is known for item, known in zip(items, costs.problem.items, strict=True)):
        return costs
    return replace(price(replace(costs.problem, items=items)), may_read=costs.may_read)


def _keeping_classes(costs: Costs) -> Costs:
    """The same costs with every class closed that would replace one that may stay: what mends a breach and no more."""
    rows = []
    for row, reasons in enumerate(costs.why_not):
        kept = {costs.pairs[column].site for column in np.flatnonzero(costs.keeps[row]) if not reasons[column]}
        rows.append(
            tuple(
                reason or ("kept" if pair.site in kept and not costs.keeps[row, column] else "")
                for column, (reason, pair) in enumerate(zip(reasons, costs.pairs, strict=True))
            )
        )
    return replace(costs, why_not=tuple(rows))


def _decide(
    costs: Costs, row: int, shape: Structure, broken: tuple[str, ...], sets: tuple[ReplicaSet | None, ReplicaSet | None]
) -> Decision:
    """sets: the cheapest one, and the cheapest that mends what is broken and no more."""
    item, (best, mended) = costs.problem.items[row], sets
    now = today(costs, row, shape)
    now_cost = split(costs, row, now)
    if best is None:
        return Decision(
            item, Verdict.INFEASIBLE, now, now_cost, None, None, costs.horizon_days, broken, (), 0.0, "", ()
        )
    new_cost = split(costs, row, best)
    ballot = ballots(costs, row, now.primary).get(costs.pairs[best.primary].site)
    gain = None if ballot is None else expected(costs, now, best, ballot)
    reads = believed(now_cost, new_cost, gain)
    item = item if reads == 1 else replace(item, demand=item.demand.times(reads))
    now_cost, new_cost = with_reads(now_cost, reads), with_reads(new_cost, reads)
    before = with_reads(split(costs, row, mended), reads) if broken and mended is not None else now_cost
    gate, probability = check(costs, item, before, new_cost, gain)
    gate += harm(costs, item, now, best)
    if broken and gate and mended is not None:  # what goes beyond mending must clear the gate as well
        best, new_cost, gate = mended, before, ()
    if best.columns == now.columns:
        verdict = Verdict.STAY
    elif broken:
        verdict = Verdict.MUST
    elif gain is None and new_cost.total >= now_cost.total:
        verdict = Verdict.STAY
    else:
        verdict = Verdict.HELD if gate else Verdict.MOVE
    moves = _moves(costs, row, (now, best), reads) if verdict in (Verdict.MOVE, Verdict.MUST) else ()
    decision = Decision(
        item, verdict, now, now_cost, best, new_cost, costs.horizon_days, broken, gate, probability, "", moves, ballot
    )
    return replace(decision, reason=_reason(costs, decision, best, new_cost))


def _moves(costs: Costs, row: int, sets: tuple[ReplicaSet, ReplicaSet], reads: float) -> tuple[PlannedMove, ...]:
    """The moves from today's set to the best one, in an order in which copies are added before others go.

    reads: how many times the expected ones they are priced with.
    """
    now, best = sets
    held = {costs.pairs[column].site: column for column in now.columns}
    wanted = {costs.pairs[column].site: column for column in best.columns}
    added = [column for site, column in wanted.items() if site not in held]
    removed = [column for site, column in held.items() if site not in wanted]
    readable = [site for site in held if costs.problem.sites[site].state in READABLE] or list(held)
    source = held[min(readable, key=lambda site: site not in wanted)]
    steps: list[tuple[MoveKind, int, int | None]] = [
        (MoveKind.COPY, source, column) for column in added[len(removed) :]
    ]
    steps += [(MoveKind.MOVE, old, new) for old, new in zip(removed, added, strict=False)]
    steps += [
        (MoveKind.CLASS, held[site], column) for site, column in wanted.items() if held.get(site, column) != column
    ]
    steps += [(MoveKind.REMOVE, old, None) for old in removed[len(added) :]]
    served = reads * costs.serve[row]
    return tuple(_priced(costs, row, (now.primary, best.primary), served, *step) for step in steps)


def _priced(
    costs: Costs, row: int, primaries: tuple[int, int], served: Floats, kind: MoveKind, source: int, target: int | None
) -> PlannedMove:
    """One move with its share of the set's money: its own storage and fees, and the reads that begin or end there."""
    delta = 0.0 if target is None else float(costs.storage[row, target])
    one_off = 0.0 if target is None else float(costs.move[row, target])
    if target == primaries[1]:
        delta += float(served[target])
    if kind is not MoveKind.COPY:
        delta -= float(costs.storage[row, source])
        one_off += float(costs.leave[row, costs.pairs[source].site])
        if source == primaries[0]:
            delta -= float(served[source])
    from_pair, to_pair = costs.pairs[source], None if target is None else costs.pairs[target]
    sites = costs.problem.sites
    return PlannedMove(
        kind=kind,
        from_site=sites[from_pair.site].name,
        from_class=from_pair.name,
        to_site=None if to_pair is None else sites[to_pair.site].name,
        to_class=None if to_pair is None else to_pair.name,
        bytes=0 if kind is MoveKind.REMOVE else costs.problem.items[row].size,
        one_off=one_off,
        monthly_delta=monthly(delta, costs),
    )


def describe(costs: Costs, chosen: ReplicaSet) -> str:
    """A set in words: the copy that is read first."""
    columns = sorted(chosen.columns, key=lambda column: column != chosen.primary)
    pairs = [costs.pairs[column] for column in columns]
    return " + ".join(f"{pair.name} at {costs.problem.sites[pair.site].name}" for pair in pairs)


def usd(value: float) -> str:
    """Dollars with three significant digits below a cent and two decimals above a dollar."""
    return f"${value:,.2f}" if abs(value) >= 1 else f"${value:.3g}"


BREACHES = {
    "rf": "more copies are asked for than stand",
    "sla": "no copy lies within the latency SLA",
    "diversity": "two copies lie at one provider",
    "residency": "a copy lies where residency forbids it",
}


def _reason(costs: Costs, decision: Decision, chosen: ReplicaSet, new: Split) -> str:
    """One sentence for a person: what is done, what it saves or mends, what it costs, and who voted what."""
    return _told(costs, decision, chosen, new) + _left_behind(costs, decision) + _who_said(costs, decision, chosen)


def _who_said(costs: Costs, decision: Decision, chosen: ReplicaSet) -> str:
    """The votes on the copy that is read, or why there were none."""
    ballot, opinion = decision.ballot, decision.item.opinion
    if decision.verdict is Verdict.MUST or opinion is None:
        return ""
    if ballot is None:
        return f"; {opinion.silence}" if opinion.silence else ""
    if comes_back(costs, decision.today, chosen, ballot):
        return "; reads since it was moved have cost enough to bring it back"
    said = zip(VOTERS, ballot.targets, ballot.gains, strict=True)
    votes = ", ".join(f"{name} {target}{f' ({usd(gain)})' if gain else ''}" for name, target, gain in said)
    return f"; {ballot.speaker.name}: {votes}"


def _left_behind(costs: Costs, decision: Decision) -> str:
    """What the moves leave in versioned buckets."""
    days = {site.name: min(site.old_versions_days, costs.horizon_days) for site in costs.problem.sites}
    left = {move.from_site for move in decision.moves if move.kind is not MoveKind.COPY and move.from_site}
    kept = sorted(site for site in left if days[site])
    return "".join(f"; old_version_kept at {site}: {days[site]:.0f} days of it are counted" for site in kept)


def _told(costs: Costs, decision: Decision, chosen: ReplicaSet, new: Split) -> str:
    reads = f"{decision.item.demand.reads * MONTH_DAYS:.3g} reads a month expected"
    best, was = describe(costs, chosen), describe(costs, decision.today)
    month = f"{usd(monthly(new.recurring, costs))} a month"
    old_month = f"{usd(monthly(decision.today_cost.recurring, costs))} a month"
    if decision.verdict is Verdict.STAY:
        return f"{reads}: {was} for {old_month} is the cheapest that the rules allow"
    if decision.verdict is Verdict.HELD:
        instead = f"{best} for {month} instead of {old_month}"
        return f"{reads}: stays at {was}; {instead} is held back: {'; '.join(decision.gate)}"
    if decision.verdict is Verdict.MUST:
        broken = "; ".join(BREACHES.get(name, name) for name in decision.breaches)
        return f"{broken}: {best} for {month} mends it at the least cost; one-off {usd(new.one_off)}"
    payback = decision.payback_days
    paid = "" if payback is None else f", paid back in {payback:.3g} days"
    return (
        f"{reads}: {best} costs {month} instead of {old_month} for {was}; one-off {usd(new.one_off)}{paid}; "
        f"saves with probability {decision.probability:.2f}"
    )
