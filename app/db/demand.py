"""How objects were read, as the planner's demand model takes it: faded sums a region, and the means of cohorts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Double, cast, func, select
from sqlalchemy.orm import Session

from app.db.tables import AccessHour, Object
from app.domain.demand import (
    COHORT_LEAST_OBJECT_DAYS,
    History,
    Prior,
    RegionReads,
    cohort_prior,
    faded_days,
    fading_per_day,
)

DAY_S = 86_400.0


def histories(session: Session, now: datetime, objects: Sequence[Object]) -> dict[int, History]:
    """Faded sums of the hourly roll-ups up to now, by object and region: one query."""
    age_days = func.extract("epoch", now - AccessHour.hour) / DAY_S
    weight = func.exp(-fading_per_day() * cast(age_days, Double))
    statement = (
        select(
            AccessHour.object_id,
            AccessHour.region,
            func.sum(AccessHour.reads * weight),
            func.sum(AccessHour.bytes_read * weight),
            func.min(AccessHour.hour),
            func.max(AccessHour.last_ts),
        )
        .where(AccessHour.object_id.in_([row.id for row in objects]), AccessHour.hour <= now)
        .group_by(AccessHour.object_id, AccessHour.region)
    )
    seen: dict[int, list[Any]] = defaultdict(list)
    for entry in session.execute(statement):
        seen[entry[0]].append(entry)
    return {row.id: _history(now, row.first_seen_at, seen.get(row.id, ())) for row in objects}


def _history(now: datetime, first_seen: datetime, entries: Sequence[Any]) -> History:
    since = min([first_seen, *(entry[4] for entry in entries)])
    last = max((entry[5] for entry in entries), default=since)
    return History(
        tuple(RegionReads(entry[1], entry[2], entry[3]) for entry in entries if entry[2] > 0),
        max(0.0, (now - since).total_seconds() / DAY_S),
        max(0.0, (now - last).total_seconds() / DAY_S),
    )


@dataclass(frozen=True)
class Priors:
    """The mean of the objects under each first path segment, and of all where those are too few."""

    everything: Prior
    by_prefix: dict[str, Prior] = field(default_factory=dict)

    @staticmethod
    def over(objects: Sequence[Object], histories: Mapping[int, History]) -> Priors:
        """The means of some objects, by what is known of how they were read."""
        groups: dict[str, list[tuple[History, int]]] = defaultdict(list)
        for row in objects:
            groups[cohort(row.key)].append((histories[row.id], row.size or 0))
        enough = {
            name: members
            for name, members in groups.items()
            if sum(faded_days(history.watched_days) for history, _ in members) >= COHORT_LEAST_OBJECT_DAYS
        }
        everything = cohort_prior(member for members in groups.values() for member in members)
        return Priors(everything, {name: cohort_prior(members) for name, members in enough.items()})

    def of(self, row: Object) -> Prior:
        """The mean of the object's cohort, its bytes for the object's size."""
        prior = self.by_prefix.get(cohort(row.key), self.everything)
        return Prior(prior.reads, prior.bytes * (row.size or 0))


def cohort(key: str) -> str:
    """The first path segment: objects under the same one are taken to be read alike."""
    return key.partition("/")[0]
