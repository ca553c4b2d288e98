"""Batches of predictions: started here, scored by a worker, downloaded page by page."""

from __future__ import annotations

import json

from flask import Response, request
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import events, general_models, security, submit
from app.api.events import NDJSON
from app.api.models import SCORED, Feature, check_names, serving
from app.api.router import Router, parse
from app.api.schemas import In, JobOut, Json
from app.api.submit import Started
from app.db import batch_pages, jobs
from app.db.session import session_scope
from app.domain.accesses import MAX_KEY_BYTES
from app.domain.general_models import RESERVED
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.errors import FieldError, Invalid, NotFound, TooLarge
from app.settings import get_settings

router = Router("prediction-batches")
MAX_ROWS = 10_000


class PredictionBatchIn(In):
    """What to score: rows of features by name, else every object, or those whose keys begin so."""

    prefix: str | None = Field(None, max_length=MAX_KEY_BYTES)
    rows: list[dict[str, Feature]] | None = Field(None, min_length=1)


class RowsIn(In):
    """Rows for a user's model."""

    rows: list[Json] = Field(min_length=1)


@router.post(
    "/models/<name:name>:predict-batch",
    Role.OPERATOR,
    answer=JobOut,
    status=202,
    starts_work=True,
    reads=("application/json", NDJSON),
    reads_as=PredictionBatchIn,
)
def predict_batch(name: str) -> Response:
    """Starts to score; the job's result names the first page of lines and how many there are. Kept for 24 hours."""
    if name not in RESERVED and events.is_lines():
        return general_models.predict_batch(name, None)
    request.max_content_length = get_settings().ingest_max_bytes
    if request.get_data().count(b"{") > MAX_ROWS + 1:  # told before millions of small objects are made of it
        raise TooLarge(f"at most {MAX_ROWS} rows are taken at once")
    if name not in RESERVED:
        sent = parse(RowsIn, security.json_body())
        return general_models.predict_batch(name, sent.rows)  # type: ignore[attr-defined]  # what parse was given
    body = parse(PredictionBatchIn, security.json_body())
    assert isinstance(body, PredictionBatchIn)  # noqa: S101 - what parse was given
    if body.rows and body.prefix is not None:
        raise Invalid("send rows or a prefix", errors=(FieldError("/prefix", "not with rows"),))
    if name != SCORED:
        raise NotFound(f"there is no model {name} that scores batches; there is {SCORED}")
    check_names(body.rows or [], serving.of(name).opened.names)
    rows = body.rows

    def begin(session: Session) -> Started:
        args = {"rows": len(rows)} if rows else {"prefix": body.prefix or ""}
        job = submit.job(session, TaskName.PREDICT_BATCH, args)
        if rows:
            batch_pages.put(session, job.id, batch_pages.SENT, [json.dumps(row).encode() for row in rows])
        return Started(job)

    return submit.start_with(begin)


@router.get("/models/<name:name>/batches/<id:job_id>/pages/<id:number>", Role.VIEWER, media=NDJSON)
def get_page(name: str, job_id: int, number: int) -> Response:
    """A page of a batch's results as gzipped NDJSON."""
    with session_scope() as session:
        job = jobs.get(session, job_id)
        if name != job.args.get("model", SCORED) or job.kind != TaskName.PREDICT_BATCH:
            raise NotFound(f"job {job_id} is no batch of model {name}")
        body = batch_pages.get(session, job_id, number)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body, headers=headers, content_type=NDJSON)
