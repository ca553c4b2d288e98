"""Source 003's routes of its Spark processor at the root: thin aliases of /v1/batch with its fields and names."""

from __future__ import annotations

from typing import Any

from flask import Response
from pydantic import Field

from app import engines
from app.api import batch, events
from app.api.router import Router
from app.api.schemas import In, JobOut, Json
from app.db import batch_counts, watch
from app.db.session import session_scope
from app.domain.batch import MAX_WINDOW_MINUTES, EngineName, Operation, choose
from app.domain.roles import Role

router = Router("sources-batch", prefix="")


class ProcessIn(In):
    """What source 003 sends."""

    events: list[Any]
    operation: Operation = Operation.PROCESS_EVENTS
    window_minutes: int = Field(60, ge=1, le=MAX_WINDOW_MINUTES)
    threshold_std: float = Field(2.0, gt=0, le=1e6)
    join_key: str | None = Field(None, description="What both lists of join_streams are joined by.")
    right_events: list[Any] | None = None


@router.post("/pipeline/spark/process", Role.OPERATOR, body=ProcessIn, answer=JobOut, status=202, starts_work=True)
def spark_process(body: ProcessIn) -> Response:
    """Starts an operation over the events that are sent, on the engine that is in use."""
    document: Json = {"operation": body.operation}
    if body.operation is Operation.TIME_WINDOW_METRICS:
        document["window_minutes"] = body.window_minutes
    if body.operation is Operation.DETECT_ANOMALIES:
        document["threshold"] = body.threshold_std
    if body.join_key is not None:
        document["key"] = body.join_key
    left = None if body.right_events is None else len(body.events)
    return batch.start(document, events.of_list([*body.events, *(body.right_events or [])]), left=left)


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
