"""What a voluntary change must clear: the payback, how sure it is, and the least time since the last one.

Where voters asked for the change, what they expect of it stands for the saving and their agreement for being sure.
"""

from __future__ import annotations

import math

from app.domain.placement import ReplicaSet, Split, saving_probability
from app.domain.placement_costs import Costs
from app.domain.placement_problem import Item
from app.domain.votes import Ballot

ROUNDING = 1e-9
"""What two sums of the same dollars may differ by, relative to them."""


def expected(costs: Costs, now: ReplicaSet, best: ReplicaSet, ballot: Ballot) -> float | None:
    """$ that the voters expect of another class in place, its change paid; None where they were not asked for that."""
    old, new = costs.pairs[now.primary], costs.pairs[best.primary]
    if old.site != new.site or old.name == new.name:
        return None
    return math.inf if comes_back(costs, now, best, ballot) else ballot.gain(new.name)


def comes_back(costs: Costs, now: ReplicaSet, best: ReplicaSet, ballot: Ballot) -> bool:
    """Whether a change is the way back from a class that reads have made too dear: never to a colder one."""
    old, new = costs.pairs[now.primary], costs.pairs[best.primary]
    return ballot.back and new.entry.first_usd >= old.entry.first_usd


def believed(now: Split, new: Split, gain: float | None) -> float:
    """How many times the expected reads those believe in who voted for a change; 1 where the expected ones pay it."""
    per_demand = now.serve - new.serve
    if gain is None or not math.isfinite(gain) or new.total < now.total or per_demand == 0:
        return 1.0
    fixed = now.total - new.total - per_demand
    return max(0.0, (gain - fixed) / per_demand)


def harm(costs: Costs, item: Item, now: ReplicaSet, best: ReplicaSet) -> tuple[str, ...]:
    """What speaks against a cheaper class for the copy that is read where demotions of its like have lost money."""
    old, new = costs.pairs[now.primary], costs.pairs[best.primary]
    demoted = old.site == new.site and new.entry.first_usd < old.entry.first_usd
    return (item.no_demotion,) if demoted and item.no_demotion else ()


def check(costs: Costs, item: Item, now: Split, new: Split, gain: float | None) -> tuple[tuple[str, ...], float]:
    """What speaks against a voluntary change from one set to another, and the probability that it saves money.

    gain: $ that the voters expect of the change; it then stands for the saving, and their agreement for being sure;
    but where no number of reads makes it pay within the horizon, what it loses stands for the saving.
    """
    rules, reasons = item.rules, []
    if gain is not None and math.isfinite(gain) and new.total - now.total > ROUNDING * abs(now.total):
        gain = now.total - new.total
    price_of_change = new.one_off - now.one_off
    saving = now.recurring + now.end - new.recurring - new.end if gain is None else gain + price_of_change
    if price_of_change > 0 and saving < rules.payback * price_of_change:
        times = saving / price_of_change
        reasons.append(f"in {costs.horizon_days:.0f} days it saves {times:.1f} times its cost, not {rules.payback:g}")
    per_demand = now.serve - new.serve
    probability = saving_probability(item, now.total - new.total - per_demand, per_demand, costs.horizon_days)
    if gain is None and probability < rules.confidence:
        reasons.append(f"it saves with probability {probability:.2f}, not {rules.confidence:g}")
    if item.days_since_move is not None and item.days_since_move < rules.min_residency_days:
        reasons.append(f"it was moved {item.days_since_move:.1f} days ago, not {rules.min_residency_days:g}")
    return tuple(reasons), probability
