"""Source 003's routes of its aggregation at the root: thin aliases of /v1/metrics with its fields and names."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Annotated

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import metrics
from app.api.router import Router
from app.api.schemas import In, Json, Name
from app.db import metrics as stored
from app.db.session import session_scope
from app.db.tables import MetricStream
from app.domain.metrics import DEFAULT_WINDOW_S, MOST_TEXT, MOST_VALUE
from app.domain.roles import Role

router = Router("sources-metrics", prefix="")
STATISTICS = ("count", "mean", "min", "max", "stddev")


class PipelineAggregateIn(In):
    """What source 003 sends: `group_by` is the group itself, such as a service's id, since nothing else names one."""

    metric_name: Name
    value: Annotated[float, Field(ge=-MOST_VALUE, le=MOST_VALUE, allow_inf_nan=False)]
    group_by: Annotated[str, Field(min_length=1, max_length=MOST_TEXT)] | None = None


@router.post("/pipeline/aggregate", Role.OPERATOR, body=PipelineAggregateIn, limited=False, starts_work=True)
def pipeline_aggregate(body: PipelineAggregateIn) -> Response:
    """Adds a sample of now."""
    sample = {"name": body.metric_name, "value": body.value, "group": body.group_by}
    return metrics.store(json.dumps(sample).encode(), strict=True)


@router.get("/pipeline/stats/<name:name>", Role.VIEWER)
def pipeline_stats(name: str) -> Json:
    """The window of a metric over all its groups."""
    with session_scope() as session:
        return _stats(session, [stored.streams_of(session, name)])[0]


@router.get("/pipeline/all-stats", Role.VIEWER)
def pipeline_all_stats() -> Json:
    """The window of every metric, by name."""
    with session_scope() as session:
        by_name = groupby(stored.listing(session), key=lambda stream: stream.name)
        streams = {name: list(found) for name, found in by_name}
        return dict(zip(streams, _stats(session, list(streams.values())), strict=True))


def _stats(session: Session, several: list[list[MetricStream]]) -> list[Json]:
    return [
        {
            "stats": {name: found[name] for name in STATISTICS},
            "total_events": found["total_events"],
            "timestamp": found["as_of"],
        }
        for found in metrics.whole(session, several, DEFAULT_WINDOW_S, spreads=False)
    ]
