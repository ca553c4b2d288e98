"""Metrics: samples are committed before the reply; windows of them are merged as they are read (step: metrics)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal

from flask import Response, request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app import clock
from app.api import computed, security, submit
from app.api.accesses import NDJSON, TYPES, LineError
from app.api.audit import record
from app.api.pages import PageQuery, encode
from app.api.router import Router
from app.api.schemas import In, Json, Name, Out, Page
from app.db import metrics
from app.db.metrics import Pair
from app.db.session import session_scope
from app.db.tables import MetricStream
from app.domain.metrics import DEFAULT_K, DEFAULT_WINDOW_S, MOST_TEXT
from app.domain.roles import Role
from app.errors import FieldError, Invalid, NotFound, UnsupportedMedia
from app.settings import get_settings

router = Router("metrics")
MAX_K = 1000


class AddQuery(In):
    """How a block is taken."""

    strict: bool = Field(False, description="Refuse the whole block for one bad sample.")


class AddedOut(Out):
    """What became of a block."""

    accepted: int
    rejected: int
    errors: list[LineError]


Window = Field(DEFAULT_WINDOW_S, ge=1, description="Seconds that the window reaches back, in whole buckets of 10.")


class ListQuery(PageQuery):
    """Which streams, over which window."""

    window: float = Window


class ShowQuery(PageQuery):
    """What of a metric, over which window."""

    window: float = Window
    group: str | None = Field(None, max_length=MOST_TEXT, description="Of this group alone.")
    group_by: Literal["group"] | None = Field(None, description="Besides, one entry a group, in pages.")


class TopQuery(In):
    """What of a metric weighs most, over which window."""

    name: Name
    k: int = Field(DEFAULT_K, ge=1, le=MAX_K)
    by: Literal["group", "item"] = Field("group", description="Groups by the sum of their values, or items by weight.")
    window: float = Window


class MetricOut(BaseModel):
    """A window's samples; null where there are none. Variance is that of all values; rate is over the last minute."""

    name: str
    group: str | None
    window_s: float
    since: datetime = Field(description="The start of the oldest bucket that counts.")
    as_of: datetime
    total_events: int = Field(description="Samples of all times of the streams that still have some.")
    count: int
    sum: float
    mean: float | None
    min: float | None
    max: float | None
    variance: float | None
    stddev: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    rate: float = Field(description="Samples a second.")
    error_bound: Json = Field(description="`rank`: of the percentiles; for each the values between which it lies.")
    groups: list[Json] | None = None
    next_cursor: str | None = None


@router.post("/metrics", Role.OPERATOR, query=AddQuery, answer=AddedOut, limited=False, reads=NDJSON, starts_work=True)
def add_samples(query: AddQuery) -> Response:
    """Takes samples: one JSON object, an array or NDJSON, plain or gzip; with an Idempotency-Key each block once."""
    if request.mimetype not in TYPES:
        raise UnsupportedMedia("send NDJSON with the header Content-Type: application/x-ndjson, or JSON")
    data = security.unpacked_body(get_settings().ingest_max_bytes)
    return store(data, strict=query.strict)


def store(data: bytes, *, strict: bool) -> Response:
    """Stores the samples of a text; the reply counts what was taken and names what was not."""

    def act(session: Session) -> Json:
        return computed.add_samples(session, data, clock.now(), strict=strict)

    return submit.once(hashlib.sha256(data).hexdigest(), act)


@router.get("/metrics", Role.VIEWER, query=ListQuery, answer=Page)
def list_metrics(query: ListQuery) -> Json:
    """Every stream, a metric and a group, with its window."""
    with session_scope() as session:
        after = _pair(query.after_text())
        streams = metrics.listing(session, after=after, limit=query.limit + 1)
        return _page(session, streams, query.window, query.limit)


@router.get("/metrics/<name:name>", Role.VIEWER, query=ShowQuery, answer=MetricOut)
def show_metric(name: str, query: ShowQuery) -> Json:
    """The window of a metric over all its groups, or of one; with `group_by` that of each group besides."""
    with session_scope() as session:
        streams = metrics.streams_of(session, name)
        if query.group is not None:
            streams = [stream for stream in streams if stream.label == query.group]
            if not streams:
                raise NotFound(f"metric {name} has no group {query.group}")
        (found,) = whole(session, [streams], query.window)
        shown = {"name": name, "group": query.group, **found}
        if query.group_by:
            after = _pair(query.after_text()) or (name, "")
            below = [stream for stream in streams if stream.label and (query.cursor is None or stream.label > after[1])]
            page = _page(session, below[: query.limit + 1], query.window, query.limit)
            shown |= {"groups": page["items"], "next_cursor": page["next_cursor"]}
        return shown


def whole(session: Session, several: list[list[MetricStream]], window_s: float, *, spreads: bool = True) -> list[Json]:
    """The window of each list of streams together, with all the samples that they ever had. spreads: percentiles."""
    rows = {stream.id: row for row, streams in enumerate(several) for stream in streams}
    given = (list(rows), list(rows.values()), clock.now(), checked(window_s))
    found = computed.windows(session, *given, spreads=spreads)
    for shown, streams in zip(found, several, strict=True):
        shown["total_events"] += sum(stream.expired for stream in streams)
    return found


def checked(window_s: float) -> float:
    """The window's seconds. Raises Invalid for more than samples are kept."""
    most = get_settings().metric_keep_s
    if window_s > most:
        raise Invalid(errors=(FieldError("/window", f"at most {most:g} s: FORETIDE_METRIC_KEEP_S"),))
    return window_s


def _page(session: Session, streams: list[MetricStream], window_s: float, limit: int) -> Json:
    shown = streams[:limit]
    last = shown[-1] if len(streams) > limit else None
    found = whole(session, [[stream] for stream in shown], window_s)
    return {
        "items": [
            {"name": stream.name, "group": stream.label or None, **of} for stream, of in zip(shown, found, strict=True)
        ],
        "next_cursor": encode(f"{last.name}/{last.label}") if last else None,
    }


def _pair(text: str | None) -> Pair | None:
    if text is None:
        return None
    name, _, label = text.partition("/")
    return name, label


@router.get("/metrics:top", Role.VIEWER, query=TopQuery)
def show_top(query: TopQuery) -> Json:
    """What weighs most: each truly weighs as much as is told, or up to `error_bound` more."""
    with session_scope() as session:
        streams = metrics.streams_of(session, query.name)
        found = computed.top(session, query.name, streams, query.by, query.k, clock.now(), checked(query.window))
    return {"name": query.name, "by": query.by, **found}


@router.route("DELETE", "/metrics/<name:name>", Role.OPERATOR, status=204)
def reset_metric(name: str) -> None:
    """Removes a metric's samples: all that were answered before this is."""
    with session_scope() as session:
        streams = metrics.reset(session, name)
        record(session, "metric.reset", name, {"streams": streams})
