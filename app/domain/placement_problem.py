"""The placement problem as values: the sites and their classes, the objects and the copies that they have.

What every (site, class) pair would cost an object stands in app/domain/placement_costs.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.demand import Demand
from app.domain.policies import Rules
from app.domain.prices import Place, PriceBook, StorageClass
from app.domain.states import SiteState
from app.domain.votes import Opinion

READABLE = (SiteState.READY, SiteState.DRAINING)
DEFAULT_HORIZON_DAYS = 30.0


@dataclass(frozen=True)
class SiteOption:
    """A site that may hold copies. volume_gb: what it stores by class, which decides the volume band."""

    name: str
    provider: str
    region: str
    latency_ms: float
    classes: tuple[str, ...]
    book: PriceBook
    state: SiteState = SiteState.READY
    encrypted: bool = True
    volume_gb: Mapping[str, float] = field(default_factory=dict)
    versioned: bool = False
    """Whether moves leave versions there."""
    old_versions_days: float = 0.0
    """How long the version that a move leaves there costs; inf: as long as anybody counts, 0: none is left."""
    capacity_bytes: int | None = None
    stored_bytes: float = 0.0
    """All that stands there or is on its way, whatever becomes of it."""
    max_request_rate: float | None = None
    """Reads a second, on the average of the day."""

    @property
    def place(self) -> Place:
        """Where its bytes leave from."""
        return Place(self.provider, self.region)


@dataclass(frozen=True)
class Held:
    """A copy that stands today."""

    site: str
    storage_class: str
    days_in_class: float
    origin: bool = False


@dataclass(frozen=True)
class Item:
    """One object to place. days_since_move: None when Foretide never moved it."""

    id: int
    key: str
    version: int
    size: int
    held: tuple[Held, ...]
    demand: Demand
    rules: Rules
    days_since_move: float | None = None
    opinion: Opinion | None = None
    """What the voters say; None: nobody was asked."""
    no_demotion: str = ""
    """Why its like is not demoted for now; empty: it may be."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A storage class at a site: where a copy may lie."""

    site: int
    name: str
    entry: StorageClass


@dataclass(frozen=True)
class Problem:
    """Objects and the sites they may lie at. horizon_days: over which costs are summed."""

    sites: tuple[SiteOption, ...]
    items: tuple[Item, ...]
    horizon_days: float = DEFAULT_HORIZON_DAYS

    def pairs(self) -> tuple[Pair, ...]:
        """Every class that a site offers, and every other in which a copy stands today."""
        names = [dict.fromkeys(site.book.storage_class(name).name for name in site.classes) for site in self.sites]
        index = {site.name: position for position, site in enumerate(self.sites)}
        for item in self.items:
            for held in item.held:
                site = index[held.site]
                names[site][self.sites[site].book.storage_class(held.storage_class).name] = None
        return tuple(
            Pair(site, name, self.sites[site].book.storage_class(name))
            for site, offered in enumerate(names)
            for name in offered
        )
