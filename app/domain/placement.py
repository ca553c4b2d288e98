"""Where each object's copies should lie: the exact closed form, the payback gate and the moves that follow.

Cost is separable by site once the set of sites is known: every copy takes its site's cheapest class, and one of them is
read. So each feasible set costs the sum of its sites' cheapest copies plus the least that reading from one adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.domain.placement_costs import Costs
from app.domain.placement_kernel import Choice, cheapest
from app.domain.placement_problem import Item
from app.domain.placement_rows import Coupled, Row, batches
from app.domain.placement_sets import Structure, structure
from app.domain.prices import MONTH_DAYS
from app.domain.pricing import Floats


@dataclass(frozen=True)
class ReplicaSet:
    """Copies at pairs (columns of Costs), `primary` being the one that is read."""

    columns: tuple[int, ...]
    primary: int


@dataclass(frozen=True)
class Split:
    """Dollars over the horizon, by what they are paid for. `end`: early deletion that would be left at its end."""

    storage: float
    requests: float
    retrieval: float
    egress: float
    sla_penalty: float
    move: float
    early_deletion: float
    end: float

    @property
    def serve(self) -> float:
        """What grows with the reads."""
        return self.requests + self.retrieval + self.egress + self.sla_penalty

    @property
    def recurring(self) -> float:
        """What would come again in the next horizon."""
        return self.storage + self.serve

    @property
    def one_off(self) -> float:
        """What changing to this set costs now."""
        return self.move + self.early_deletion

    @property
    def total(self) -> float:
        """The objective."""
        return self.recurring + self.one_off + self.end


def with_reads(cost: Split, factor: float) -> Split:
    """The same set when it is read so many times as often; what a managed class keeps is taken to cost the same."""
    if factor == 1:
        return cost
    return replace(
        cost,
        requests=cost.requests * factor,
        retrieval=cost.retrieval * factor,
        egress=cost.egress * factor,
        sla_penalty=cost.sla_penalty * factor,
    )


def split(costs: Costs, row: int, chosen: ReplicaSet) -> Split:
    """The cost of a set for the object of that row, by component."""
    columns, primary = chosen.columns, chosen.primary
    kept = {costs.pairs[column].site for column in columns if costs.keeps[row, column]}
    left = [fee for site, fee in enumerate(costs.leave[row].tolist()) if site not in kept]
    return Split(
        storage=sum(costs.storage[row, column].item() for column in columns),
        requests=costs.requests[row, primary].item(),
        retrieval=costs.retrieval[row, primary].item(),
        egress=costs.egress[row, primary].item(),
        sla_penalty=costs.penalty[row, primary].item(),
        move=sum(costs.move[row, column].item() for column in columns),
        early_deletion=sum(left),
        end=sum(costs.end[row, column].item() for column in columns),
    )


def structures(costs: Costs) -> list[Structure]:
    """Each object's structure; objects that share rules and sites share the very same one."""
    known: dict[tuple[int, tuple[tuple[str, bool], ...]], Structure] = {}
    result = []
    for item in costs.problem.items:
        key = (id(item.rules), tuple((held.site, held.origin) for held in item.held))
        if key not in known:
            known[key] = structure(item, costs.problem.sites)
        result.append(known[key])
    return result


def solve(costs: Costs) -> list[ReplicaSet | None]:
    """The cheapest feasible set of every object, today's included; None where there is none. Exact."""
    result: list[ReplicaSet | None] = [None] * len(costs.problem.items)
    for coupled in couple(costs):
        read_off(coupled, cheapest(coupled.batch, np.zeros(0)), result)
    return result


def couple(costs: Costs, rows: Sequence[Row] = ()) -> list[Coupled]:
    """The objects as the kernel takes them, with the rows that they share."""
    shapes = structures(costs)
    return batches(costs, shapes, [_surplus(costs, row, shape) for row, shape in enumerate(shapes)], rows)


def read_off(coupled: Coupled, choice: Choice, into: list[ReplicaSet | None]) -> None:
    """Writes a batch's choice as sets, at its objects' rows."""
    object_of, column_of = np.nonzero(choice.held.T)
    ends = np.searchsorted(object_of, np.arange(len(coupled.objects) + 1)).tolist()
    columns, primaries = column_of.tolist(), choice.read.argmax(axis=0).tolist()
    for index, row in enumerate(coupled.objects.tolist()):
        held = tuple(columns[ends[index] : ends[index + 1]])
        into[row] = ReplicaSet(held, primaries[index]) if held else None


def totals(costs: Costs, chosen: Sequence[ReplicaSet | None]) -> Floats:
    """The objective of each object's set, 0 where there is none."""
    return np.array([0.0 if at is None else split(costs, row, at).total for row, at in enumerate(chosen)])


def _surplus(costs: Costs, row: int, shape: Structure) -> tuple[tuple[int, ...], int] | None:
    """Today's copies where there are more of them than needed: dropping some may cost more than it saves."""
    if not shape.sets or len(shape.held) <= len(shape.sets[0]) or breaches(costs, row, shape):
        return None
    now = today(costs, row, shape)
    return (now.columns, now.primary) if np.isfinite(costs.reading[row, now.primary]) else None


def today(costs: Costs, row: int, shape: Structure) -> ReplicaSet:
    """The copies that stand, read from the one that serves most cheaply among those that readers may use."""
    columns = tuple(costs.keeps[row].nonzero()[0].tolist())
    reading = [column for column in columns if costs.pairs[column].site in shape.primaries] or list(columns)
    return ReplicaSet(columns, min(reading, key=lambda column: float(costs.serve[row, column])))


def breaches(costs: Costs, row: int, shape: Structure) -> tuple[str, ...]:
    """The rules that today's copies break, by name; empty when they may stay."""
    closed = [costs.why_not[row][column] for column in costs.keeps[row].nonzero()[0].tolist()]
    broken = [reason for reason in dict.fromkeys(closed) if reason]
    if not shape.held_is_enough:
        item = costs.problem.items[row]
        sites = costs.problem.sites
        providers = {sites[site].provider for site in shape.held}
        if shape.fast is not None and not shape.fast & set(shape.held):
            broken.append("sla")
        if len(shape.held) < item.rules.rf:
            broken.append("rf")
        elif item.rules.diversity and len(providers) < item.rules.rf:
            broken.append("diversity")
    return tuple(broken)


def monthly(value: float, costs: Costs) -> float:
    """Dollars over the horizon as dollars a month."""
    return value * MONTH_DAYS / costs.horizon_days


def saving_probability(item: Item, fixed: float, per_demand: float, horizon_days: float) -> float:
    """P(fixed + per_demand·z > 0), z being the demand relative to its mean: Gamma with mean 1.

    Its variance is that of the rate (1 / shape) and of the count in the horizon (1 / expected reads).
    """
    if abs(per_demand) < 1e-15 or item.demand.reads <= 0:
        return 1.0 if fixed + per_demand > 0 else 0.0
    shape = 1 / (1 / max(item.demand.shape, 1e-9) + 1 / (item.demand.reads * horizon_days))
    edge = -fixed / per_demand
    below = gamma_cdf(shape, shape * edge) if edge > 0 else 0.0
    return 1 - below if per_demand > 0 else below


def gamma_quantile(shape: float, p: float) -> float:
    """What a Gamma variable of this shape and mean 1 stays below with probability p."""
    low, high = 0.0, 1.0
    while gamma_cdf(shape, shape * high) < p:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if gamma_cdf(shape, shape * middle) < p else (low, middle)
    return (low + high) / 2


def gamma_cdf(shape: float, x: float) -> float:
    """The regularised lower incomplete gamma function: its series, or Wilson and Hilferty's form for large shapes."""
    if x <= 0:
        return 0.0
    if shape > 200:
        deviation = ((x / shape) ** (1 / 3) - (1 - 1 / (9 * shape))) * 3 * math.sqrt(shape)
        return 0.5 * math.erfc(-deviation / math.sqrt(2))
    if x > shape + 40 * math.sqrt(shape) + 100:
        return 1.0
    term = math.exp(shape * math.log(x) - x - math.lgamma(shape + 1))
    total, step = term, 0
    while term > total * 1e-12 or step < x - shape:
        step += 1
        term *= x / (shape + step)
        total += term
        if term == 0.0:
            break
    return min(1.0, total)
