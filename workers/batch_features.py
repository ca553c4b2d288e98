"""Features of a span of accesses: an engine adds the hours up, ml/features.py makes the features (step: batch)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.compute as pc

from app.db import access_days, objects
from app.db.accesses import microseconds
from app.db.session import session_scope
from app.domain.batch import Span
from ml import batch
from ml.features import NAMES, snapshot
from ml.history import Catalogue, History
from workers.base import JobContext
from workers.batch_engines import Engine, run
from workers.batch_files import columns_of
from workers.batch_lines import iso
from workers.batch_streams import Stream, within

KEYS_AT_ONCE = 50_000


def lines(job: JobContext, engine: Engine, stream: Stream, folder: Path, at_once: int) -> Iterator[list[bytes]]:
    """A line a key that was accessed: its features as of the span's end, which is a full hour."""
    assert stream.span is not None  # noqa: S101 - the API takes accesses alone for this operation
    run(engine, batch.hours(within(engine.read(stream.files), stream.span)), folder / "hours", job.check)
    keys, history = _history(folder / "hours", stream.span)
    as_of = microseconds(stream.span.until)
    job.check()
    X = snapshot(history, Catalogue.of(keys, _sizes(keys)), as_of)
    moment = iso(as_of)
    for start in range(0, len(keys), at_once):
        part = slice(start, start + at_once)
        told = (dict(zip(NAMES, row, strict=True)) for row in X[part].astype(float).tolist())
        yield [
            msgspec.json.encode({"key": key, "as_of": moment, "features": features})
            for key, features in zip(keys[part], told, strict=True)
        ]
        job.progress(min(start + at_once, len(keys)), len(keys), "keys")


def _history(folder: Path, span: Span) -> tuple[list[str], History]:
    """The keys, and their hours as a history over their numbers."""
    columns = columns_of(folder)
    encoded = pc.dictionary_encode(columns["key"]).combine_chunks()
    keys: list[str] = encoded.dictionary.to_pylist()
    names = ("last_ts", "reads", "writes", "bytes_read", "partial_uploads")
    ts, reads, writes, read, partial = (np.asarray(columns[name].to_numpy(), np.int64) for name in names)
    with session_scope() as session:
        known = access_days.first_known(session) or span.since
    begin = microseconds(max(known, span.since))
    owner = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return keys, History.of(owner, ts, reads, writes, read, partial, objects=len(keys), begin=begin)


def _sizes(keys: list[str]) -> list[int | None]:
    found: dict[str, int | None] = {}
    for start in range(0, len(keys), KEYS_AT_ONCE):
        with session_scope() as session:
            found |= objects.sizes(session, keys[start : start + KEYS_AT_ONCE])
    return [found.get(key) for key in keys]
