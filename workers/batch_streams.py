"""Streams that a batch operation goes over: events that were sent, or accesses of a span, as files (step: batch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import access_days, access_exports, event_pages, sites, topics
from app.db.accesses import microseconds
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.batch import ACCESS_FIELDS, Operation, Received, Recipe, Span
from app.domain.topics import MOST_BYTES, MOST_LINES
from app.errors import FieldError
from app.s3 import files
from app.s3.client import connect
from ml import batch
from ml.batch_columns import KEY, group_column, own_column
from ml.batch_rows import BODY, Reader
from workers.base import JobContext
from workers.batch_engines import Engine
from workers.batch_files import EventsFile, accesses_file, accesses_from_database

if TYPE_CHECKING:
    from ibis.expr.types import Table

EVENT_GROUPS, ACCESS_GROUPS = ("type",), ("op",)
"""By what process_events tells events apart unless fields are named."""
SHOWN = (Operation.JOIN_STREAMS, Operation.DETECT_ANOMALIES)
"""Operations whose results show the events themselves."""
TIMED = (Operation.TIME_WINDOW_METRICS,)


@dataclass
class Stream:
    """Files of one kind with what is needed to read them as a stream."""

    recipe: Recipe
    """Of this stream: those of a join may be joined by different fields."""
    files: list[Path]
    groups: tuple[str, ...]
    carried: tuple[str, ...]
    """Columns that show the events themselves."""
    span: Span | None = None
    """Of a stream of accesses."""
    count: int = 0
    left_out: int = 0
    errors: list[FieldError] = field(default_factory=list)
    days: Json = field(default_factory=dict)
    """Of a stream of accesses: how many days came from where."""

    @property
    def group_columns(self) -> list[str]:
        """The columns of the groups, in their order."""
        return [group_column(number) for number in range(len(self.groups))]


def of_events(
    job: JobContext, folder: Path, recipe: Recipe, *, first: int = 0, count: int | None = None, name: str = "events"
) -> Stream:
    """The events that were sent with the job, or `count` of them from `first` on."""
    total = int(job.args["events"])
    last = total if count is None else first + count

    def mine() -> Iterator[list[bytes]]:
        seen = 0
        for lines in event_pages.read(job.id) if total else ():
            yield lines[max(first - seen, 0) : max(last - seen, 0)]
            seen += len(lines)

    return _written(job, folder / f"{name}.parquet", recipe, mine(), first, last - first)


def of_topic(job: JobContext, folder: Path, recipe: Recipe, asked: Received, name: str = "topic") -> Stream:
    """The events of a topic that came within a time, up to the last that stands there now. Raises OffsetGone."""
    with session_scope() as session:
        begin, end = topics.between(session, asked.topic, asked.since, asked.until)

    def kept() -> Iterator[list[bytes]]:
        offset = begin
        while offset < end:
            with session_scope() as session:
                chunks = topics.read(session, asked.topic, offset, min(MOST_LINES, end - offset), MOST_BYTES)
            for chunk in chunks:
                yield list(chunk.lines)
                offset = chunk.next_offset

    return _written(job, folder / f"{name}.parquet", recipe, kept(), begin, end - begin)


def _written(
    job: JobContext, path: Path, recipe: Recipe, pages: Iterable[list[bytes]], first: int, total: int
) -> Stream:
    """A stream of the events of these pages. first: the first event's number, which errors go by."""
    groups = recipe.groups(EVENT_GROUPS)
    reader = Reader(
        time=recipe.time,
        value=recipe.value or "value",
        key=recipe.key,
        groups=groups,
        needs_time=recipe.operation in TIMED,
        keeps_body=recipe.operation in SHOWN,
        first=first,
    )
    texts = [KEY, *(group_column(number) for number in range(len(groups))), *([BODY] if reader.keeps_body else [])]
    with EventsFile(path, texts) as file:
        for lines in pages:
            if lines:
                file.add(reader.columns(event_pages.decoded(lines), lines))
            job.progress(reader.count, total, "events")
    carried = (BODY,) if reader.keeps_body else ()
    return Stream(recipe, [path], groups, carried, None, reader.count, reader.left_out, reader.errors)


def of_accesses(job: JobContext, folder: Path, recipe: Recipe, span: Span, name: str = "accesses") -> Stream:
    """The accesses of a span, a file a day."""
    stream = Stream(recipe, [], recipe.groups(ACCESS_GROUPS), tuple(map(own_column, ACCESS_FIELDS)), span)
    days = access_days.days_of(span)
    with session_scope() as session:
        kept = set(access_days.kept(session, days))
        exported = access_exports.readable(session, days)
    found = {"database": 0, "exported": 0, "none": 0}
    for number, day in enumerate(days, 1):
        path = folder / f"{name}-{day}.parquet"
        if day in exported:
            export, site = exported[day]
            files.download(connect(sites.address(site)), export.key, export.etag, export.sha256, path, job.check)
            stream.count += export.rows
        elif day in kept:
            stream.count += accesses_from_database(access_days.within(span, day), path)
        found["exported" if day in exported else "database" if day in kept else "none"] += 1
        stream.files += [path] if path.exists() else []
        job.progress(number, len(days), "days")
    stream.days = found
    if not stream.files:
        stream.files.append(_empty(folder / f"{name}-none.parquet"))
    return stream


def _empty(path: Path) -> Path:
    text = path.with_suffix(".csv")
    text.touch()
    accesses_file(text, path)
    return path


def table(engine: Engine, stream: Stream) -> Table:
    """The stream as the operations take it; of accesses with all their fields."""
    read = engine.read(stream.files)
    if stream.span is None:
        return read
    return batch.accesses_stream(
        within(read, stream.span), stream.recipe.value or "bytes", stream.recipe.key or KEY, stream.groups
    )


def within(read: Table, span: Span) -> Table:
    """The accesses of the span: days that were exported are whole."""
    since, until = microseconds(span.since), microseconds(span.until)
    mine = read.filter((read["ts"] >= since) & (read["ts"] < until))
    return mine.filter(mine[KEY].startswith(span.prefix)) if span.prefix else mine
