"""Source 003's routes of its Spark processor at the root: thin aliases of /v1/batch with its fields and names."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from pydantic import Field

from app import engines
from app.api import batch, events, security
from app.api.router import Router, parse
from app.api.schemas import In, JobOut, Json
from app.db import batch_counts, watch
from app.db.session import session_scope
from app.domain.batch import MAX_WINDOW_MINUTES, EngineName, Operation, choose
from app.domain.roles import Role
from app.errors import FieldError, Invalid
from app.settings import get_settings

router = Router("sources-batch", prefix="")
SENT = {"/key": "/join_key", "/other": "/right_events", "/threshold": "/threshold_std"}
"""What fields are called in these routes."""


class ProcessIn(In):
    """What source 003 sends."""

    events: list[Any]
    operation: Operation = Operation.PROCESS_EVENTS
    window_minutes: int = Field(60, ge=1, le=MAX_WINDOW_MINUTES)
    threshold_std: float = Field(2.0, gt=0, le=1e6)
    join_key: str | None = Field(None, description="What both lists of join_streams are joined by.")
    right_events: list[Any] | None = None


@router.post(
    "/pipeline/spark/process",
    Role.OPERATOR,
    answer=JobOut,
    status=202,
    starts_work=True,
    reads=("application/json",),
    reads_as=ProcessIn,
)
def spark_process() -> Response:
    """Starts an operation over the events that are sent, on the engine that is in use."""
    request.max_content_length = get_settings().ingest_max_bytes
    body = parse(ProcessIn, security.json_body(), strict=True)
    assert isinstance(body, ProcessIn)  # noqa: S101 - what parse was given
    document: Json = {"operation": body.operation, "key": body.join_key}
    if "window_minutes" in body.model_fields_set or body.operation is Operation.TIME_WINDOW_METRICS:
        document["window_minutes"] = body.window_minutes
    if "threshold_std" in body.model_fields_set or body.operation is Operation.DETECT_ANOMALIES:
        document["threshold"] = body.threshold_std
    left = None if body.right_events is None else len(body.events)
    try:
        with events.of_list([*body.events, *(body.right_events or [])]) as upload:
            return batch.start(document, upload, left=left)
    except Invalid as error:
        sent = (FieldError(SENT.get(each.pointer, each.pointer), each.detail) for each in error.errors)
        raise Invalid(error.detail, errors=tuple(sent)) from error


@router.get("/pipeline/spark/status", Role.VIEWER)
def spark_status() -> Json:
    """Whether Spark runs, or DuckDB in its place: active or active_fallback_mode, with the events gone over so far."""
    spark = engines.spark()
    choice = choose(None, spark)
    on_spark = choice.engine is EngineName.SPARK
    with session_scope() as session:
        processed = watch.counted(session, batch_counts.EVENTS)
    return {
        "status": "active" if on_spark else "active_fallback_mode",
        "mode": "cluster" if on_spark and not spark.is_local else "local",
        "events_processed": processed,
        "engine": choice.engine,
        "why": choice.why,
    }
