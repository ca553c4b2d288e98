"""Keeps the newest prediction of each object; only what changed is written (step: predict)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.columnar import Column, stage_columns
from ml.serving import TIERS, Floats, Ints, Scores

P_STEP = 0.01
"""A probability that moved by less is not written again."""
DEMAND_STEP = 0.05
"""The same for expected reads and bytes, as a share."""

LEAST = {"reads_1d": 0.01, "reads_7d": 0.01, "reads_30d": 0.01, "reads_30d_low": 1, "reads_30d_high": 1}
LEAST |= {"bytes_1d": 1, "bytes_7d": 1, "bytes_30d": 1}
"""Of each column of the demand what less than is no share of anything: a change is measured against that at least."""
_SCORES = ("p_raw", "p_hot", "p_low", "p_high")
_NUMBERS = ("as_of", *_SCORES, *LEAST)
_MOVED = " or ".join(
    f"abs(p.{name} - excluded.{name}) > :demand_step * greatest(p.{name}, {least})" for name, least in LEAST.items()
)
_UPSERT = text(
    f"""insert into prediction as p (object_id, model_version_id, demand_version_id, tier, {", ".join(_NUMBERS)})
    select s.object_id, s.model_version_id, nullif(s.demand_version_id, 0), (cast(:tiers as text[]))[s.tier + 1],
        {", ".join(f"s.{name}" for name in _NUMBERS)}
    from prediction_stage s join object o on o.id = s.object_id order by s.object_id
    on conflict (object_id) do update set
        model_version_id = excluded.model_version_id, demand_version_id = excluded.demand_version_id,
        tier = excluded.tier, {", ".join(f"{name} = excluded.{name}" for name in _NUMBERS)}
    where p.model_version_id <> excluded.model_version_id or p.tier <> excluded.tier
        or p.demand_version_id is distinct from excluded.demand_version_id or p.reads_1d is null
        or abs(p.p_hot - excluded.p_hot) >= :p_step or {_MOVED}
    returning object_id"""  # noqa: S608 - only names of this module are put in
)
_TIER = text(
    "update object o set tier = p.tier from prediction p"
    " where p.object_id = o.id and o.id = any(:ids) and o.tier is distinct from p.tier"
)


@dataclass(frozen=True)
class Predicted:
    """Predictions of some objects, one element each."""

    ids: Ints
    scores: Scores
    demand: Mapping[str, Floats]
    """Reads and bytes by the names of their columns."""
    demand_version_id: int | None = None
    """Of the version that said them; None: no version did."""


def save(session: Session, predicted: Predicted, tiers: Ints, model_version_id: int, as_of: int) -> Ints:
    """Writes what changed and the objects' tiers; returns the ids written.

    tiers: indexes into ml.serving.TIERS. as_of: microseconds since 1970 UTC.
    """
    n = len(predicted.ids)
    numbers: dict[str, tuple[Column, Ints]] = {
        "object_id": ("bigint", predicted.ids),
        "model_version_id": ("bigint", np.full(n, model_version_id)),
        "as_of": ("timestamptz", np.full(n, as_of)),
        "demand_version_id": ("bigint", np.full(n, predicted.demand_version_id or 0)),
        "tier": ("bigint", tiers),
    }
    scores = {name: getattr(predicted.scores, name) for name in _SCORES}
    values: dict[str, tuple[Column, Floats]] = {
        name: ("double precision", column) for name, column in {**scores, **predicted.demand}.items()
    }
    stage_columns(session, "prediction_stage", {**numbers, **values})
    written = session.scalars(_UPSERT, {"p_step": P_STEP, "demand_step": DEMAND_STEP, "tiers": list(TIERS)}).all()
    session.execute(_TIER, {"ids": list(written)})
    return np.array(written, np.int64)
