"""Feature vectors from the database's history: used by the roll-up for what was touched and by predict for all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from app import clock
from app.db import accesses, features, observations
from app.db.observations import Observed
from app.db.session import session_scope
from app.errors import Invalid
from ml.features import NAMES, Matrix, snapshot
from workers.base import JobContext

PREFIX_HEAT = NAMES.index("prefix_heat")
AT_ONCE = 20_000


@dataclass(frozen=True)
class Vectors:
    """Features of objects as of a time, with the history that they were made from."""

    observed: Observed
    X: Matrix
    as_of: int
    """Microseconds since 1970 UTC."""


def as_of(job: JobContext) -> datetime:
    """The time to look from: the job's `as_of`, else now. Raises Invalid for one without a zone."""
    given = job.args.get("as_of")
    if given is None:
        return clock.now()
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise Invalid(f"as_of is not a time: {given!r}") from None
    if moment.tzinfo is None:
        raise Invalid(f"as_of has no time zone: {given!r}")
    return moment


def of_all(moment: datetime) -> Vectors:
    """Features of every object that is not gone."""
    with session_scope() as session:
        observed = observations.observe(session, moment)
    now = accesses.microseconds(moment)
    return Vectors(observed, snapshot(observed.history, observed.catalogue, now), now)


def refresh(job: JobContext, touched: Collection[int], moment: datetime) -> int:
    """Saves the features of some objects. Their prefix's heat is that of the last pass over all, minutes ago."""
    ids = sorted(touched)
    now = accesses.microseconds(moment)
    for start in range(0, len(ids), AT_ONCE):
        with job.saving() as session:
            observed = observations.observe(session, moment, ids[start : start + AT_ONCE])
            heat = features.stored(session, observed.ids, PREFIX_HEAT)
            X = snapshot(observed.history, observed.catalogue, now, np.asarray(heat))
            features.save(session, observed.ids, X, now)
        job.check()
    return len(ids)
