"""Keeps the newest prediction of each object; only what changed is written (step: predict)."""

from __future__ import annotations

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

_UPSERT = text(
    """insert into prediction as p
        (object_id, model_version_id, as_of, p_raw, p_hot, p_low, p_high, tier, reads_30d, bytes_30d)
    select s.object_id, s.model_version_id, s.as_of, s.p_raw, s.p_hot, s.p_low, s.p_high,
        (cast(:tiers as text[]))[s.tier + 1], s.reads_30d, s.bytes_30d
    from prediction_stage s join object o on o.id = s.object_id order by s.object_id
    on conflict (object_id) do update set
        model_version_id = excluded.model_version_id, as_of = excluded.as_of, p_raw = excluded.p_raw,
        p_hot = excluded.p_hot, p_low = excluded.p_low, p_high = excluded.p_high, tier = excluded.tier,
        reads_30d = excluded.reads_30d, bytes_30d = excluded.bytes_30d
    where p.model_version_id <> excluded.model_version_id or p.tier <> excluded.tier
        or abs(p.p_hot - excluded.p_hot) >= :p_step
        or abs(p.reads_30d - excluded.reads_30d) > :demand_step * greatest(p.reads_30d, 0.01)
        or abs(p.bytes_30d - excluded.bytes_30d) > :demand_step * greatest(p.bytes_30d, 1)
    returning object_id"""
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
    reads_30d: Floats
    bytes_30d: Floats


def save(session: Session, predicted: Predicted, tiers: Ints, model_version_id: int, as_of: int) -> Ints:
    """Writes what changed and the objects' tiers; returns the ids written.

    tiers: indexes into ml.serving.TIERS. as_of: microseconds since 1970 UTC.
    """
    n = len(predicted.ids)
    numbers: dict[str, tuple[Column, Ints]] = {
        "object_id": ("bigint", predicted.ids),
        "model_version_id": ("bigint", np.full(n, model_version_id)),
        "as_of": ("timestamptz", np.full(n, as_of)),
        "tier": ("bigint", tiers),
    }
    values: dict[str, tuple[Column, Floats]] = {
        "p_raw": ("double precision", predicted.scores.p_raw),
        "p_hot": ("double precision", predicted.scores.p_hot),
        "p_low": ("double precision", predicted.scores.p_low),
        "p_high": ("double precision", predicted.scores.p_high),
        "reads_30d": ("double precision", predicted.reads_30d),
        "bytes_30d": ("double precision", predicted.bytes_30d),
    }
    stage_columns(session, "prediction_stage", {**numbers, **values})
    written = session.scalars(_UPSERT, {"p_step": P_STEP, "demand_step": DEMAND_STEP, "tiers": list(TIERS)}).all()
    session.execute(_TIER, {"ids": list(written)})
    return np.array(written, np.int64)
