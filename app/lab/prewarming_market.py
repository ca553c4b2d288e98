"""Where objects of a replay may lie for the time of a peak, and what reading from there and going there costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.domain import pricing
from app.domain.placement_problem import Pair, SiteOption
from app.domain.policies import Readers, Rules
from app.domain.prices import GB, PriceBook, egress_per_gb
from app.lab.ladders import classes
from app.lab.pairs import PricedSite, reader_regions
from app.lab.traces import Trace
from ml.tiering_types import Floats, Ints


@dataclass(frozen=True)
class Market:
    """Where objects may lie and what that costs. pairs: numbered as the policy numbers them."""

    sites: tuple[SiteOption, ...]
    pairs: tuple[Pair, ...]
    per_get: Floats
    """[pair] $"""
    per_byte: Floats
    """[pair, region] $ of retrieval and egress."""
    there: Floats
    """[pair, object] the least that a copy or a change of class from there costs."""
    rules: Rules
    slow: Ints
    """[pair] 1 where an answer comes later than the SLA allows."""


def one_site(book: PriceBook, trace: Trace, size: Ints) -> Market:
    """One site's classes; egress is the same from all of them and left out."""
    option = SiteOption(book.name, book.provider, "", 0.0, tuple(entry.name for entry in classes(book)), book)
    return _market((option,), np.zeros((1, len(trace.regions))), size, Rules(readers=Readers.DIRECT), None)


def several_sites(sites: Sequence[PricedSite], trace: Trace, size: Ints, sla_ms: float | None) -> Market:
    """Several sites' classes. sla_ms: what is answered later misses; None: nothing does."""
    options = tuple(
        SiteOption(
            site.name, site.book.provider, site.region, site.latency_ms or 0.0,
            tuple(entry.name for entry in classes(site.book)), site.book,
        )
        for site in sites
    )  # fmt: skip
    return _market(options, reader_regions(trace, sites)[0], size, Rules(readers=Readers.ROUTED), sla_ms)


def _market(sites: tuple[SiteOption, ...], egress: Floats, size: Ints, rules: Rules, sla_ms: float | None) -> Market:
    pairs = tuple(Pair(number, entry.name, entry) for number, site in enumerate(sites) for entry in classes(site.book))
    back = np.array([float(pair.entry.retrieval_per_gb) for pair in pairs])
    there = np.full((len(pairs), len(size)), np.inf)
    for a, source in enumerate(pairs):
        for target in pairs:
            if target is not source:
                there[a] = np.minimum(there[a], _there(sites, source, target, size.astype(float)))
    return Market(
        sites, pairs, np.array([float(pair.entry.get_per_1k) / 1000 for pair in pairs]),
        (back[:, None] + egress[[pair.site for pair in pairs]]) / GB, there, rules,
        np.array([sla_ms is not None and sites[pair.site].latency_ms > sla_ms for pair in pairs], np.int64),
    )  # fmt: skip


def _there(sites: Sequence[SiteOption], source: Pair, target: Pair, size: Floats) -> Floats:
    if source.site == target.site:
        return pricing.transition_usd(source.entry, target.entry, size)
    origin = sites[source.site]
    rate = egress_per_gb(origin.book, origin.place, sites[target.site].place)
    return pricing.copy_usd(source.entry, target.entry, size, rate)
