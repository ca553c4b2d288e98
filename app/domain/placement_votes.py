"""Counts the votes: the pair at which the copy that is read lies, if two of three voters agree on it, else as it lies.

A voter says a class at each site; egress and the other copies make of that its cheapest pair. What rules demand acts
without a vote, and copies that nobody reads need none: they lie where holding them costs least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from app.domain.placement import ReplicaSet, solve, structures, today
from app.domain.placement_costs import Costs, Picks
from app.domain.votes import VOTERS, Ballot


def voted(costs: Costs, *, or_stay: bool = False) -> Costs:
    """The same costs with the copy that is read held to the pair that the vote gives.

    Objects without a vote, and those for which the rules leave nothing of it, stay open. or_stay: today's pair stays
    open as well, for those whom a budget holds back.
    """
    if not any(item.opinion and item.opinion.ballots for item in costs.problem.items):
        return costs
    now = [today(costs, row, shape).primary for row, shape in enumerate(structures(costs))]
    asked = [ballots(costs, row, primary) for row, primary in enumerate(now)]
    found = [solve(replace(costs, may_read=_said(costs, asked, voter))) for voter in range(len(VOTERS))]
    picked = np.ones(costs.serve.shape, bool)
    for row, (said, *voices) in enumerate(zip(asked, *found, strict=True)):
        if said:
            picked[row] = False
            picked[row, _agreed(costs, said, now[row], voices)] = True
    final = replace(costs, may_read=picked)
    for row, chosen in enumerate(solve(final)):
        picked[row] |= chosen is None
        picked[row, now[row]] |= or_stay
    return final


def ballots(costs: Costs, row: int, primary: int) -> dict[int, Ballot]:
    """By site index, what is said of an object as it stands; empty where nothing is of the copy that is read."""
    item = costs.problem.items[row]
    if item.opinion is None or not item.opinion.ballots:
        return {}
    held = {copy.site: copy.storage_class for copy in item.held}
    found = {}
    for index, site in enumerate(costs.problem.sites):
        ballot = item.opinion.at(site.name, site.book.storage_class(held.get(site.name, "")).name)
        if ballot is not None:
            found[index] = ballot
    return found if costs.pairs[primary].site in found else {}


def _said(costs: Costs, asked: Sequence[dict[int, Ballot]], voter: int) -> Picks:
    """[object, pair] where one voter would let the copy lie that is read."""
    masks: dict[tuple[tuple[int, str], ...], Picks] = {}
    result = np.ones(costs.serve.shape, bool)
    for row, said in enumerate(asked):
        if said:
            wanted = {site: b.targets[voter] if b.speaker.voting else b.target for site, b in said.items()}
            key = tuple(wanted.items())
            if key not in masks:
                masks[key] = np.array([_fits(costs, column, wanted, said) for column in range(len(costs.pairs))])
            result[row] = masks[key]
    return result


def _fits(costs: Costs, column: int, wanted: dict[int, str], said: dict[int, Ballot]) -> bool:
    """Whether a pair is what is wanted at its site; past the coldest class that voters know, archives are as good.

    A site with one class has nothing to vote on.
    """
    pair = costs.pairs[column]
    if pair.site not in wanted:
        return sum(other.site == pair.site for other in costs.pairs) == 1
    return pair.name == wanted[pair.site] or (
        pair.entry.archive and wanted[pair.site] == said[pair.site].speaker.coldest
    )


def _agreed(costs: Costs, said: dict[int, Ballot], now: int, voices: Sequence[ReplicaSet | None]) -> int:
    """The pair that two voices share; where none do, where the object rests."""
    primaries = [voice.primary for voice in voices if voice is not None]
    for column in primaries:
        if primaries.count(column) > 1:
            return column
    site = costs.pairs[now].site
    return next((i for i, p in enumerate(costs.pairs) if p.site == site and p.name == said[site].rest), now)
