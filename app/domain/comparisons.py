"""Two answers to one question side by side: the plan as it would be now, and under a scenario. Money in $ a month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.placement import Split
from app.domain.placement_decisions import Decision, Verdict
from app.domain.placement_problem import Item
from app.domain.plans import KEYS_SHOWN, Totals
from app.domain.prices import MONTH_DAYS

COMPONENTS = ("storage", "requests", "retrieval", "egress", "sla_penalty")
PREFIXES_KEPT = 1000
PREFIXES_SHOWN = 20
EXAMPLES = 20
OTHERS = "…"
"""Stands for all prefixes beyond those that are kept apart."""


@dataclass
class PrefixSums:
    """What the decisions about the objects under one prefix come to."""

    objects: int = 0
    infeasible: int = 0
    moves: int = 0
    one_off: float = 0.0
    cost_before: float = 0.0
    cost_after: float = 0.0


@dataclass
class Tally(Totals):
    """Totals that also tell what is paid for and under which prefix, one path segment below `base`."""

    base: str = ""
    before: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 0.0))
    after: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 0.0))
    prefixes: dict[str, PrefixSums] = field(default_factory=dict)

    def add(self, decisions: Iterable[Decision], sign: int = 1) -> None:
        """Counts some decisions in; with sign -1 out again."""
        counted = list(decisions)
        super().add(counted, sign)
        for decision in counted:
            month = sign * MONTH_DAYS / decision.horizon_days
            _sum(self.before, decision.today_cost, month)
            _sum(self.after, decision.cost, month)
            sums = self.prefixes.setdefault(self.prefix(decision.item.key), PrefixSums())
            sums.objects += sign
            sums.infeasible += sign * (decision.verdict is Verdict.INFEASIBLE)
            sums.moves += sign * len(decision.moves)
            sums.one_off += sign * sum(move.one_off for move in decision.moves)
            sums.cost_before += month * decision.today_cost.recurring
            sums.cost_after += month * decision.cost.recurring

    def prefix(self, key: str) -> str:
        """Under which prefix a key is counted."""
        head, slash, _ = key[len(self.base) :].partition("/")
        name = self.base + head + slash if slash else self.base
        return name if name in self.prefixes or len(self.prefixes) < PREFIXES_KEPT else OTHERS


def _sum(into: dict[str, float], cost: Split, times: float) -> None:
    for name in COMPONENTS:
        into[name] += times * getattr(cost, name)


@dataclass
class Comparison:
    """What differs between two answers, gathered block by block."""

    now: Tally
    then: Tally
    other_rules: int = 0
    """Objects that other rules would hold for."""
    lost: int = 0
    lost_keys: list[str] = field(default_factory=list)
    touched: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Objects by prefix that other rules hold for, that lose a copy, or that have no placement any more."""

    def note(
        self, items: Sequence[Item], changed: Sequence[Item], gone: Sequence[Item], then: Sequence[Decision]
    ) -> None:
        """Counts one block: its objects today and in the scenario, those that are gone, what is decided then."""
        today = {item.id: item for item in items}
        stuck = {entry.item.id for entry in then if entry.verdict is Verdict.INFEASIBLE}
        for item in changed:
            before = today[item.id]
            otherwise = item.rules is not before.rules and item.rules != before.rules
            self.other_rules += otherwise
            if otherwise or len(item.held) < len(before.held) or item.id in stuck:
                self.touched[self.now.prefix(item.key)] += 1
        for item in gone:
            self.touched[self.now.prefix(item.key)] += 1
        self.lost += len(gone)
        self.lost_keys += [item.key for item in gone[: KEYS_SHOWN - len(self.lost_keys)]]

    def document(
        self, now: tuple[Sequence[Decision], Sequence[Any]], then: tuple[Sequence[Decision], Sequence[Any]]
    ) -> dict[str, Any]:
        """The whole comparison as JSON; now, then: the changes and the groups without a placement of either answer."""
        current, other = _side(self.now, now[1]), _side(self.then, [*self._lost(), *then[1]])
        differing = _differing(now[0], then[0])
        return {
            "objects": self.now.objects,
            "objects_under_other_rules": self.other_rules,
            "objects_moved_otherwise": len(differing),
            "objects_lost": self.lost,
            "current": current,
            "what_if": other,
            "delta": _delta(current, other),
            "by_prefix": self._prefixes(differing),
            "examples": [_example(*pair) for pair in differing[:EXAMPLES]],
        }

    def _lost(self) -> list[dict[str, Any]]:
        if not self.lost:
            return []
        return [
            {
                "rules": ["copies"],
                "detail": "no copy is left: the only ones lie at a site that is lost",
                "relaxations": [],
                "objects": self.lost,
                "keys": self.lost_keys,
            }
        ]

    def _prefixes(self, differing: Sequence[tuple[Decision | None, Decision | None]]) -> list[dict[str, Any]]:
        """The prefixes whose money, moves or feasibility changes most."""
        examples: dict[str, list[str]] = defaultdict(list)
        for pair in differing:
            key = next(entry.item.key for entry in pair if entry is not None)
            examples[self.now.prefix(key)].append(key)
        rows: list[dict[str, Any]] = []
        for name, now in self.now.prefixes.items():
            then = self.then.prefixes.get(name, PrefixSums())
            rows.append(
                {
                    "prefix": name,
                    "objects": now.objects,
                    "touched": self.touched.get(name, 0),
                    "infeasible": now.objects - then.objects + then.infeasible,
                    "moves": then.moves,
                    "one_off": then.one_off,
                    "cost_before": now.cost_before,
                    "cost_planned": now.cost_after,
                    "cost_what_if": then.cost_after,
                    "examples": examples[name][:KEYS_SHOWN],
                }
            )
        rows.sort(key=lambda row: (-abs(row["cost_what_if"] - row["cost_planned"]), -row["touched"], row["prefix"]))
        return rows[:PREFIXES_SHOWN]


def _side(tally: Tally, infeasible: Sequence[Any]) -> dict[str, Any]:
    """One answer's money; `before` is what stands, `after` what would stand once the plan was carried out."""
    return {
        "cost_before": tally.cost_before,
        "cost_after": tally.cost_after,
        "components": {name: {"before": tally.before[name], "after": tally.after[name]} for name in COMPONENTS},
        "one_off": tally.one_off,
        "moves": tally.moves,
        "bytes_moved": tally.bytes,
        "verdicts": {name: count for name, count in tally.verdicts.items() if count},
        "infeasible": list(infeasible),
    }


def _delta(current: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario less the current answer."""
    plain = {
        name: other[name] - current[name] for name in ("cost_before", "cost_after", "one_off", "moves", "bytes_moved")
    }
    after = {name: other["components"][name]["after"] - current["components"][name]["after"] for name in COMPONENTS}
    return {**plain, "components": after}


def _differing(now: Sequence[Decision], then: Sequence[Decision]) -> list[tuple[Decision | None, Decision | None]]:
    """Pairs of what would be changed now and then of one object, where the two are not the same moves."""
    before = {entry.item.id: entry for entry in now}
    after = {entry.item.id: entry for entry in then}
    pairs = [(before.get(number), after.get(number)) for number in dict.fromkeys([*after, *before])]
    return [pair for pair in pairs if _moves(pair[0]) != _moves(pair[1])]


def _moves(decision: Decision | None) -> list[dict[str, Any]]:
    names = ("from_site", "from_class", "to_site", "to_class")
    moves = () if decision is None else decision.moves
    return [{"kind": move.kind.value, **{name: getattr(move, name) for name in names}} for move in moves]


def _example(now: Decision | None, then: Decision | None) -> dict[str, Any]:
    shown = then or now
    return {
        "key": shown.item.key if shown else "",
        "current": _moves(now),
        "what_if": _moves(then),
        "monthly_delta": 0.0 if then is None else then.monthly_delta,
        "reason": "nothing is moved" if then is None else then.reason,
    }
