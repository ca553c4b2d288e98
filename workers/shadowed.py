"""How a shadow of tiers and one of demand are heard and judged (step: predict)."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import numpy as np
from sqlalchemy.orm import Session

from app.db import model_files
from app.db.model_files import PACKED, Serving
from app.db.shadows import Outcomes
from app.db.tables import ModelVersion
from ml import demand_measures, judging
from ml.demand_forecast import Forecaster, Past
from ml.demand_spread import QUANTILES
from ml.evaluation import Outcome
from ml.history import Floats, Ints
from ml.judging import Comparison
from ml.serving import Packed
from workers import demand, scoring
from workers.features import Vectors
from workers.models import SEED, open_packed, recalibrated
from workers.shadow import Kind

# -- Tiers: the probability of a read


def _tier_opened(session: Session, shadow: ModelVersion) -> Packed:
    packed = open_packed(model_files.read(session, shadow, PACKED))
    return model_files.renewed(session, Serving(shadow, PACKED, packed), recalibrated).opened


def _tier_says(packed: Packed, vectors: Vectors, chosen: Ints, _: timedelta) -> Floats:
    return scoring.score(packed, vectors.X[chosen]).p_hot[:, None]


def _tier_compared(came: Outcomes) -> Comparison:
    return judging.compare(Outcome(came.reads > 0, came.object), came.said[:, 0], came.said_champion[:, 0], SEED)


TIER = Kind(
    horizon=lambda shadow: timedelta(hours=int(shadow.metrics["horizon_h"])),
    open=_tier_opened,
    say=_tier_says,
    numbers=1,
    rarest=lambda reads: int(min((reads > 0).sum(), (reads == 0).sum())),
    compare=_tier_compared,
)

# -- Demand: the quantiles of the reads of the shortest horizon; the longer ones would take weeks, and passed their gate


def _demand_opened(session: Session, shadow: ModelVersion) -> Forecaster:
    return Forecaster.from_bytes(model_files.read(session, shadow, PACKED))


def _demand_says(past: Past, opened: Forecaster, vectors: Vectors, chosen: Ints, horizon: timedelta) -> Floats:
    seen = vectors.observed
    alone = Forecaster(tuple(one for one in opened.learned if one.days == horizon.days))
    found = alone.forecast(seen.history, seen.catalogue, vectors.as_of, vectors.X, past)
    return found[horizon.days].quantiles[chosen]


def _demand_compared(came: Outcomes) -> Comparison:
    reads = came.reads.astype(float)
    lost, beside = (demand_measures.pinball(reads, said) for said in (came.said, came.said_champion))
    gain = demand_measures.gain(lost, beside, came.object, SEED)
    return {"n": len(reads), "objects": len(np.unique(came.object)), "quantile_loss": gain}


def demand_by(past: Past) -> Kind[Forecaster]:
    """Of demand. past: what its spread is renewed by."""
    return Kind(
        horizon=lambda shadow: timedelta(days=demand.shortest(shadow)),
        open=_demand_opened,
        say=partial(_demand_says, past),
        numbers=len(QUANTILES),
        rarest=lambda reads: int((reads > 0).sum()),
        compare=_demand_compared,
    )
