"""What an object needs to have its copies again: which are made anew, how many are lacking, what cannot be mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.migrations import ReplicaFacts, SiteFacts
from app.domain.policies import Rules
from app.domain.states import ReplicaState, SiteState

DAMAGED = frozenset({ReplicaState.LOST, ReplicaState.CORRUPT})
READABLE = frozenset({SiteState.READY, SiteState.DRAINING})


@dataclass(frozen=True)
class Copies:
    """An object's replicas and the sites, by site name; moving: a migration has the object."""

    rules: Rules
    replicas: Mapping[str, ReplicaFacts]
    sites: Mapping[str, SiteFacts]
    moving: bool = False

    def good(self) -> list[str]:
        """The sites that serve the current version, those first that answer."""
        serving = [
            site for site, found in self.replicas.items() if found.state is ReplicaState.SERVING and found.current
        ]
        return sorted(serving, key=lambda site: self.sites[site].state not in READABLE)


@dataclass(frozen=True)
class Mending:
    """What to do: copies of `source` at the sites and classes of `remade`, and `lacking` more where the rules say."""

    source: str | None = None
    remade: tuple[tuple[str, str], ...] = ()
    lacking: int = 0
    kept: tuple[str, ...] = ()
    """Why something is left as it is, once for each replica, or for the object."""


def is_broken(serving: int, damaged: int, rules: Rules) -> bool:
    """Whether an object with so many serving and damaged replicas needs a look."""
    return damaged > 0 or serving < rules.rf


def mend(copies: Copies) -> Mending:
    """What to do about a broken object. What only its owner can mend is never overwritten, but told."""
    damaged = {site: found for site, found in copies.replicas.items() if found.state in DAMAGED}
    originals = tuple("original_corrupt" for found in damaged.values() if _is_owners(found))
    good = copies.good()
    if not good:
        return Mending(kept=(*originals, "no_good_copy"))
    if copies.moving:
        return Mending(kept=(*originals, "object_is_moving"))
    remade, kept = [], list(originals)
    for site, found in damaged.items():
        if _is_owners(found):
            continue
        reason = _why_not(site, found.storage_class, copies)
        if reason:
            kept.append(reason)
        else:
            remade.append((site, found.storage_class))
    lacking = max(0, copies.rules.rf - len(good) - len(remade))
    return Mending(good[0], tuple(remade), lacking, tuple(kept))


def _is_owners(found: ReplicaFacts) -> bool:
    return found.state is ReplicaState.CORRUPT and not found.ours


def _why_not(site: str, storage_class: str, copies: Copies) -> str | None:
    """Why a copy is not made anew where it was."""
    rules, facts = copies.rules, copies.sites[site]
    if rules.sites is not None and site not in rules.sites:
        return "residency"
    if facts.state is not SiteState.READY:
        return f"site_{facts.state}"
    if rules.encrypted_only and not facts.encrypted:
        return "destination_not_encrypted"
    if storage_class not in facts.capabilities.classes:
        return "class_not_kept"
    return None
