"""Why a row's probability is what it is: what each feature adds to it (step: predict).

Of a feature's two marginal contributions, to a typical row and to this one, the mean: a Shapley value (1953) of which
only the first and the last order are taken. Either alone misleads where features move together: what one of them says
all others say too. In log-odds, so that certain rows have reasons as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.serving import Matrix, Packed, logit

TOP = 3
KINDS = frozenset({"file_type"})
"""Numbers that only name a kind have no usual value."""
LEAST = 0.05
"""Log-odds; less is no reason."""


@dataclass(frozen=True)
class Reason:
    """One feature that sets a row apart."""

    feature: str
    value: float
    typical: float
    """The median of the rows that the model was trained on."""
    effect: float
    """What the feature's value adds to the log-odds: above 0 it makes the object hotter."""


def typical(reference: Mapping[str, Any]) -> dict[str, float]:
    """The median of each feature of a version's reference (ml.drift.reference), to within a bin."""
    found = {}
    for name, spread in reference.get("features", {}).items():
        edges, counts = spread["edges"], np.cumsum(spread["counts"])
        if edges and name not in KINDS:
            found[name] = float(edges[min(int(np.searchsorted(counts, counts[-1] / 2)), len(edges) - 1)])
    return found


def top(packed: Packed, X: Matrix, usual: Mapping[str, float]) -> list[list[Reason]]:
    """Of each row up to three reasons, the strongest first. X: (rows × names); usual: as `typical` gives it."""
    names = [name for name in packed.names if name in usual]
    places = [packed.names.index(name) for name in names]
    plain = X.copy()
    plain[:, places] = [usual[name] for name in names]
    variants = [X, plain]
    for place in places:
        without, alone = X.copy(), plain.copy()
        without[:, place], alone[:, place] = plain[:, place], X[:, place]
        variants += [without, alone]
    odds = logit(packed.score(np.concatenate(variants)).p_hot).reshape(len(variants), len(X))
    effect = (odds[0] - odds[2::2] + odds[3::2] - odds[1]) / 2
    ranked = np.argsort(-np.abs(effect), axis=0, kind="stable")[:TOP]
    return [
        [
            Reason(names[at], float(X[row, places[at]]), usual[names[at]], float(effect[at, row]))
            for at in ranked[:, row]
            if abs(effect[at, row]) >= LEAST
        ]
        for row in range(len(X))
    ]
