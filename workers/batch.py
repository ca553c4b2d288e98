"""The `batch` task: streams become files, an engine runs one expression over them, its rows become pages (step: batch).

Memory is that of a page and of the engine's limit, however many events there are. What loads arrow and the engines
is imported when a job of this kind comes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app import engines
from app.db import alerts, batch_counts, batch_pages
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.batch import MAX_LINES, Choice, Operation, Received, Recipe, Span, Spark, choose
from app.errors import Cancelled, ForetideError, LeaseLost, TooLarge
from app.queue import TaskName
from workers.base import JobContext, job_task

if TYPE_CHECKING:
    from ibis.expr.types import Table

    from workers.batch_engines import Engine
    from workers.batch_streams import Stream

PAGE = 10_000
ALERT = "spark_cannot_run"


@job_task(TaskName.BATCH)
def run_batch(job: JobContext) -> Json:
    """Runs {"recipe": …} over what was sent or the accesses of a span; the result tells how many lines and pages."""
    began = time.monotonic()
    recipe = Recipe.of(job.args["recipe"])
    spark = engines.spark()
    choice = choose(recipe.engine, spark)
    try:
        result = _run(job, recipe, choice, spark)
    except (Cancelled, LeaseLost):
        raise
    except ForetideError:
        _count(recipe, choice, batch_counts.FAILED, began, 0)
        raise
    _count(recipe, choice, batch_counts.SUCCEEDED, began, result["events"])
    return result


def _count(recipe: Recipe, choice: Choice, ended: str, began: float, events: int) -> None:
    with session_scope() as session:
        seconds = time.monotonic() - began
        batch_counts.count(session, recipe.operation, choice.engine, ended, seconds, events)
        if choice.falls_back:
            alerts.raise_alert(session, ALERT, "warning", choice.why)
        elif recipe.engine is None:
            alerts.clear(session, ALERT)


def _run(job: JobContext, recipe: Recipe, choice: Choice, spark: Spark) -> Json:
    from workers.batch_engines import opened
    from workers.batch_files import workspace

    with workspace() as folder:
        streams = _streams(job, recipe, folder)
        with opened(choice.engine, spark, folder) as engine:
            lines = _features(job, engine, streams[0], folder) if _is_features(recipe) else _rows(
                job, engine, recipe, streams, folder
            )  # fmt: skip
            told = pages = 0
            for pages, page in enumerate(lines, 1):
                with job.saving() as session:
                    batch_pages.put(session, job.id, pages, page)
                told += len(page)
    return {
        "operation": recipe.operation,
        "engine": choice.engine,
        "why": choice.why,
        "events": sum(stream.count for stream in streams),
        "left_out": sum(stream.left_out for stream in streams),
        "errors": [vars(error) for stream in streams for error in stream.errors],
        **{name: stream.days for name, stream in zip(("days", "other_days"), streams, strict=False) if stream.span},
        "lines": told,
        "pages": pages,
        "page": f"/v1/batch/{job.id}/pages/1" if pages else None,
    }


def _is_features(recipe: Recipe) -> bool:
    return recipe.operation is Operation.EXTRACT_FEATURES


def _streams(job: JobContext, recipe: Recipe, folder: Path) -> list[Stream]:
    """The stream, or for a join the left one and the right one."""
    left = job.args.get("left")
    streams = [_stream(job, recipe, folder, job.args, "first", 0, left)]
    if (other := job.args.get("other")) is not None:
        its = replace(recipe, **{name: other[name] for name in ("key", "time") if other.get(name)})
        streams.append(_stream(job, its, folder, other, "other", left or 0, None))
    return streams


def _stream(
    job: JobContext, recipe: Recipe, folder: Path, of: Json, name: str, first: int, count: int | None
) -> Stream:
    from workers import batch_streams

    if of.get("accesses"):
        return batch_streams.of_accesses(job, folder, recipe, Span.of(of["accesses"]), name)
    if of.get("topic"):
        return batch_streams.of_topic(job, folder, recipe, Received.of(of["topic"]), name)
    return batch_streams.of_events(job, folder, recipe, first=first, count=count, name=name)


def _rows(
    job: JobContext, engine: Engine, recipe: Recipe, streams: list[Stream], folder: Path
) -> Iterator[list[bytes]]:
    from workers.batch_engines import run
    from workers.batch_files import count_rows, rows_of
    from workers.batch_lines import writer

    written = folder / "result"
    run(engine, _expression(engine, recipe, streams).limit(MAX_LINES + 1), written, job.check)
    total = count_rows(written)
    if total > MAX_LINES:
        raise TooLarge(f"the result has more than {MAX_LINES} lines; narrow the streams or the operation")
    line, done = writer(recipe, streams), 0
    for rows in rows_of(written, PAGE):
        yield [line(row) for row in rows]
        done += len(rows)
        job.progress(done, total, "lines")


def _expression(engine: Engine, recipe: Recipe, streams: list[Stream]) -> Table:
    from ml import batch
    from workers.batch_lines import MINUTE
    from workers.batch_streams import table

    first, groups = table(engine, streams[0]), streams[0].group_columns
    if recipe.operation is Operation.PROCESS_EVENTS:
        return batch.totals(first, batch.Totals(groups))
    if recipe.operation is Operation.TIME_WINDOW_METRICS:
        return batch.windows(first, batch.Windows(groups, recipe.window_minutes * MINUTE))
    if recipe.operation is Operation.DETECT_ANOMALIES:
        return batch.anomalies(first, batch.Anomalies(groups, recipe.threshold, streams[0].carried))
    within = None if recipe.within_seconds is None else round(recipe.within_seconds * 1e6)
    asked = batch.Join(streams[0].carried, streams[1].carried, within)
    return batch.join(first, table(engine, streams[1]), asked)


def _features(job: JobContext, engine: Engine, stream: Stream, folder: Path) -> Iterator[list[bytes]]:
    from workers.batch_features import lines

    return lines(job, engine, stream, folder, PAGE)
