"""Which sets of sites an object's copies may lie at under its rules: the feasible region, before any money.

Used by the closed form (app/domain/placement.py), by the MILP and by explanations, so that all three agree on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from app.domain.placement_problem import READABLE, Item, SiteOption
from app.domain.policies import Readers


@dataclass(frozen=True)
class Structure:
    """The rules of an object over site indices.

    forced: sites that keep their copy (direct readers, pins, sites that cannot be reached); add: copies wanted beside
    those; free: sites where they may lie; exclusive: groups of free sites of which one at most is used; fast: sites
    within the SLA, None without one; primaries: sites that reads may be served from; held: sites with a copy today.
    """

    forced: tuple[int, ...]
    free: tuple[int, ...]
    add: int
    exclusive: tuple[tuple[int, ...], ...]
    fast: frozenset[int] | None
    primaries: frozenset[int]
    held: tuple[int, ...]

    def violated(self, chosen: Sequence[int]) -> tuple[str, ...]:
        """The rules that a set of sites breaks, by name: diversity, readers, rf, sla."""
        added = [site for site in chosen if site not in self.forced]
        checks = {
            "diversity": any(site not in self.free for site in added)
            or any(sum(site in group for site in added) > 1 for group in self.exclusive),
            "readers": not set(self.forced) <= set(chosen) or not self.primaries & set(chosen),
            "rf": len(added) != self.add,
            "sla": self.fast is not None and not self.fast & set(chosen),
        }
        return tuple(name for name, broken in checks.items() if broken)

    @cached_property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Every set of sites that breaks no rule. They are enumerated: meant for a dozen sites, not for hundreds."""
        candidates = (tuple(sorted((*self.forced, *added))) for added in combinations(self.free, self.add))
        return tuple(chosen for chosen in candidates if not self.violated(chosen))

    @cached_property
    def held_is_enough(self) -> bool:
        """Whether the copies of today hold a feasible set; more of them than needed is no breach."""
        return any(set(chosen) <= set(self.held) for chosen in self.sets)


def structure(item: Item, sites: Sequence[SiteOption]) -> Structure:
    """The structure of one object's rules."""
    rules, index = item.rules, {site.name: position for position, site in enumerate(sites)}
    held = tuple(sorted(index[entry.site] for entry in item.held))
    origins = {index[entry.site] for entry in item.held if entry.origin}
    if rules.readers is Readers.DIRECT or rules.pinned:
        forced = held
    else:
        forced = tuple(site for site in held if sites[site].state not in READABLE)
    providers = {sites[site].provider for site in forced}
    free = tuple(
        position
        for position, site in enumerate(sites)
        if position not in forced and not (rules.diversity and rules.rf > 1 and site.provider in providers)
    )
    groups: dict[str, list[int]] = {}
    for site in free:
        groups.setdefault(sites[site].provider if rules.diversity else sites[site].name, []).append(site)
    covered = len(providers) if rules.diversity else len(forced)
    sla = rules.sla_ms
    return Structure(
        forced=forced,
        free=free,
        add=max(0, rules.rf - covered),
        exclusive=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        fast=None if sla is None else frozenset(i for i, site in enumerate(sites) if site.latency_ms <= sla),
        primaries=frozenset(
            (origins or set(held)) if rules.readers is Readers.DIRECT else range(len(sites)),
        ),
        held=held,
    )
