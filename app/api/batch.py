"""Operations over many events at once: started here, run by a worker on DuckDB or Spark, downloaded page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from flask import Response, request
from pydantic import AfterValidator, AwareDatetime, Field
from sqlalchemy.orm import Session

from app import engines
from app.api import events, security, submit
from app.api.events import NDJSON, Upload
from app.api.router import Router, parse
from app.api.schemas import In, JobOut, Json
from app.api.submit import Started
from app.db import batch_pages, jobs
from app.db.session import session_scope
from app.domain.accesses import MAX_KEY_BYTES
from app.domain.batch import MAX_GROUPS, MAX_WINDOW_MINUTES, EngineName, Operation, Received, Recipe, Span, choose
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.domain.topics import TopicName
from app.errors import FieldError, Invalid, NotFound
from app.settings import get_settings

router = Router("batch")
ONE = "give events, accesses or a topic, one of them"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text


FieldName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class SpanIn(In):
    """Accesses that were ingested."""

    since: AwareDatetime
    until: AwareDatetime = Field(description="The first moment that is not meant any more.")
    prefix: str = Field("", max_length=MAX_KEY_BYTES)


class TopicIn(In):
    """Events that were published to a topic, by when they came."""

    name: TopicName
    since: AwareDatetime | None = None
    until: AwareDatetime | None = Field(None, description="The first moment that is not meant any more.")


class OtherIn(In):
    """The right stream of a join."""

    events: list[Any] | None = None
    accesses: SpanIn | None = None
    topic: TopicIn | None = None
    key: FieldName | None = Field(None, description="Its field, where it differs from the left stream's.")
    time: FieldName | None = Field(None, description="The same.")


class RecipeIn(In):
    """What to do, and which fields of the events it reads."""

    operation: Operation
    engine: EngineName | None = Field(
        None, description="null: Spark where a master is set, if it can run; else DuckDB."
    )
    time: FieldName | None = Field(None, description="The field with an event's time; null: timestamp, else ts.")
    value: FieldName | None = Field(None, description="The number that is measured; null: value, of accesses bytes.")
    key: FieldName | None = Field(None, description="What streams are joined by; of accesses key unless told.")
    group_by: list[FieldName] | None = Field(
        None, max_length=MAX_GROUPS, description="Fields that tell groups apart; process_events: type, of accesses op."
    )
    window_minutes: int | None = Field(None, ge=1, le=MAX_WINDOW_MINUTES, description="60 unless told.")
    threshold: float | None = Field(None, gt=0, le=1e6, description="Standard deviations; 2 unless told.")
    within_seconds: float | None = Field(None, ge=0, le=1e9, description="How far apart joined events are at most.")


class BatchIn(RecipeIn):
    """The same with the stream, one of events, accesses and topic, and for a join the other one."""

    events: list[Any] | None = None
    accesses: SpanIn | None = None
    topic: TopicIn | None = None
    other: OtherIn | None = None


class BatchQuery(In):
    """What to do with events that are sent as NDJSON; fields as in the JSON body, lists split by commas."""

    operation: str | None = None
    engine: str | None = None
    time: str | None = None
    value: str | None = None
    key: str | None = None
    group_by: str | None = None
    window_minutes: int | None = None
    threshold: float | None = None
    within_seconds: float | None = None
    left: int | None = Field(None, ge=0, description="A join's left stream are so many events, the others its right.")


@router.post(
    "/batch",
    Role.OPERATOR,
    query=BatchQuery,
    answer=JobOut,
    status=202,
    starts_work=True,
    reads=("application/json", NDJSON),
    reads_as=BatchIn,
)
def start_batch(query: BatchQuery) -> Response:
    """Starts an operation; the job's result names the first page of lines and how many there are. Kept for 24 hours."""
    if events.is_lines():
        document = parse(RecipeIn, _of_query(query))
        with events.of_lines() as upload:
            return start(document.model_dump(), upload, left=query.left)
    if query.model_fields_set:
        raise Invalid("the query says what to do with NDJSON; a JSON body says it itself")
    request.max_content_length = get_settings().ingest_max_bytes
    body = parse(BatchIn, security.json_body())
    assert isinstance(body, BatchIn)  # noqa: S101 - what parse was given
    return _of_body(body)


def _of_body(body: BatchIn) -> Response:
    recipe = body.model_dump(exclude={"events", "accesses", "topic", "other"})
    other = body.other
    wrong = [FieldError("/events", ONE)] if not _is_one(body) else []
    wrong += [FieldError("/other/events", ONE)] if other and not _is_one(other) else []
    if wrong:
        raise Invalid(errors=tuple(wrong))
    mine, theirs = body.events or [], (other.events or []) if other else []
    left = len(mine) if other and other.events is not None else None
    with events.of_list([*mine, *theirs]) as upload:
        return start(recipe, upload, left=left, stream=body, other=other)


def _is_one(stream: BatchIn | OtherIn) -> bool:
    return [stream.events, stream.accesses, stream.topic].count(None) == 2


def start(
    document: Json,
    upload: Upload,
    *,
    left: int | None = None,
    stream: BatchIn | None = None,
    other: OtherIn | None = None,
) -> Response:
    """Starts the job. Raises Invalid, and Conflict for an engine that is asked for and cannot run.

    left: how many of the events that were uploaded are the left stream of a join of events. stream, other: where the
    streams come from that are no uploaded events.
    """
    recipe = Recipe.of(document)
    is_join, is_features = (recipe.operation is each for each in (Operation.JOIN_STREAMS, Operation.EXTRACT_FEATURES))
    accesses = stream.accesses if stream else None
    if is_join != (other is not None or left is not None):
        raise Invalid(errors=(FieldError("/other", "is the right stream of join_streams, and of nothing else"),))
    if is_join and recipe.key is None and accesses is None:
        raise Invalid(errors=(FieldError("/key", "is the field by which the streams are joined"),))
    if is_features and accesses is None:
        raise Invalid(errors=(FieldError("/accesses", "features are made of accesses"),))
    args: Json = {"recipe": recipe.as_json(), "events": upload.count}
    if left is not None:
        args["left"] = min(left, upload.count)
    if stream:
        args |= _stream(stream, recipe, "", whole_hours=is_features)
    if is_join:
        args["other"] = _other(other or OtherIn(), recipe)
    choose(recipe.engine, engines.spark())  # refused now, not when a worker comes to it

    def begin(session: Session) -> Started:
        job = submit.job(session, TaskName.BATCH, args)
        upload.give(session, job.id)
        return Started(job)

    return submit.start_with(begin, sent=[args, upload.sha256])


def _other(other: OtherIn, recipe: Recipe) -> Json:
    named: Json = {name: value for name in ("key", "time") if (value := getattr(other, name)) is not None}
    its = Recipe(recipe.operation, key=other.key or recipe.key, time=other.time)
    if its.key is None and other.accesses is None:
        raise Invalid(errors=(FieldError("/other/key", "is the field of the right stream that is joined"),))
    return named | _stream(other, its, "/other", whole_hours=False)


def _stream(stream: BatchIn | OtherIn, recipe: Recipe, pointer: str, *, whole_hours: bool) -> Json:
    """Where the stream comes from, as it stands in the job's arguments."""
    if stream.accesses:
        recipe.check_for_accesses()
        return {"accesses": _span(stream.accesses, f"{pointer}/accesses", whole_hours=whole_hours).as_json()}
    if stream.topic:
        asked = stream.topic
        if asked.since and asked.until and asked.until <= asked.since:
            raise Invalid(errors=(FieldError(f"{pointer}/topic/until", "is not after since"),))
        return {"topic": Received(asked.name, asked.since, asked.until).as_json()}
    return {}


def _span(given: SpanIn, pointer: str, *, whole_hours: bool) -> Span:
    if given.until <= given.since:
        raise Invalid(errors=(FieldError(f"{pointer}/until", "is not after since"),))
    if whole_hours and given.until.timestamp() % 3600:
        raise Invalid(errors=(FieldError(f"{pointer}/until", "features are as of a full hour"),))
    if given.since < EPOCH:
        raise Invalid(errors=(FieldError(f"{pointer}/since", "is before 1970"),))
    return Span(given.since, given.until, given.prefix)


def _of_query(query: BatchQuery) -> Json:
    given = {name: value for name, value in query.model_dump(exclude={"left"}).items() if value is not None}
    if "group_by" in given:
        given["group_by"] = [name for name in given["group_by"].split(",") if name]
    return given


@router.get("/batch/engine", Role.VIEWER)
def get_engine() -> Json:
    """Which engine runs what does not ask for one, and why; what there is of Spark where this process runs."""
    spark = engines.spark()
    choice = choose(None, spark)
    found = {"master": spark.master or None, "pyspark": spark.pyspark, "java": spark.java, "problem": spark.problem}
    return {"engine": choice.engine, "why": choice.why, "falls_back": choice.falls_back, "spark": found}


@router.get("/batch/<id:job_id>/pages/<id:number>", Role.VIEWER, media=NDJSON)
def get_page(job_id: int, number: int) -> Response:
    """A page of an operation's result as gzipped NDJSON."""
    with session_scope() as session:
        if jobs.get(session, job_id).kind != TaskName.BATCH:
            raise NotFound(f"job {job_id} is no batch operation")
        body = batch_pages.get(session, job_id, number)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body, headers=headers, content_type=NDJSON)
